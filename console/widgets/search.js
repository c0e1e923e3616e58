// The search box at the top of every page: a combobox whose suggestions come from the server.

export default {
  template: `
  <div class="search" role="search" @focusout="left">
    <span class="material-icons-outlined" aria-hidden="true">search</span>
    <input id="search" class="typed" ref="box" type="text" role="combobox" autocomplete="off" spellcheck="false" maxlength="600"
      :aria-label="label" :placeholder="placeholder" aria-autocomplete="list" aria-controls="search-list"
      :aria-expanded="open ? 'true' : 'false'" :aria-activedescendant="open ? 'search-' + at : undefined"
      v-model="text" @input="typed" @focus="typed" @keydown="onKey">
    <kbd aria-hidden="true">/</kbd>
    <ul v-show="open" id="search-list" role="listbox" :aria-label="label">
      <li v-for="(suggestion, index) in suggestions" :key="index" :id="'search-' + index" role="option"
          :aria-selected="index === at ? 'true' : 'false'" @mousedown.prevent="choose(index)" @mousemove="at = index">
        <span class="material-icons-outlined" aria-hidden="true">{{ suggestion.icon }}</span>{{ suggestion.text }}
      </li>
    </ul>
  </div>`,
  props: { label: String, placeholder: String, suggestions: { type: Array, default: () => [] } },
  emits: ["typed", "chosen"],
  data() {
    return { text: "", at: 0, wanted: false };
  },
  computed: {
    open() {
      return this.wanted && this.suggestions.length > 0;
    },
  },
  methods: {
    typed() {
      this.wanted = true;
      this.at = 0;
      this.$emit("typed", this.text);
    },
    left(event) {
      if (!this.$el.contains(event.relatedTarget)) this.wanted = false;
    },
    choose(index) {
      this.$emit("chosen", { index, text: this.text });
      this.wanted = false;
      this.text = "";
      this.$refs.box.blur();
    },
    onKey(event) {
      const last = this.suggestions.length - 1;
      if (event.key === "ArrowDown") this.at = Math.min(last, this.at + 1);
      else if (event.key === "ArrowUp") this.at = Math.max(0, this.at - 1);
      else if (event.key === "Enter" && !event.isComposing) this.choose(this.at);
      else if (event.key === "Escape") {
        this.wanted = false;
        this.$refs.box.blur();
      } else return;
      event.preventDefault();
    },
  },
};
