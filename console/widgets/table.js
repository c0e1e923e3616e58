// The table of every list: rows as data, cells as small parts, so that fifty rows are one element for the server.
// Texts are interpolated, never set as HTML.

export default {
  template: `
  <div class="grid-wrap">
    <table class="grid" :aria-label="label">
      <thead>
        <tr>
          <th v-if="selectable" class="pick" scope="col">
            <input type="checkbox" :aria-label="labels.select_page" :checked="all" :indeterminate.prop="some && !all"
              :disabled="!rows.length" @change="toggleAll">
          </th>
          <th v-for="column in columns" :key="column.name" scope="col" :class="column.kind"
              :aria-sort="sort === column.name ? (order === 'asc' ? 'ascending' : 'descending') : undefined">
            <button v-if="column.sortable" type="button" class="sort" :title="column.sort_label"
                @click="$emit('sort', column.name)">
              {{ column.label }}<span aria-hidden="true" class="arrow">{{
                sort === column.name ? (order === 'asc' ? '↑' : '↓') : '↕' }}</span>
            </button>
            <template v-else>{{ column.label }}</template>
          </th>
        </tr>
      </thead>
      <tbody @keydown="onKey">
        <tr v-for="(row, index) in rows" :key="row.id" :data-id="row.id" :tabindex="index === at ? 0 : -1"
            :class="[row.tone, { picked: picked.has(row.id) }]" @focus="at = index">
          <td v-if="selectable" class="pick">
            <input type="checkbox" :aria-label="row.select_label" :checked="picked.has(row.id)"
              @change="toggle(row.id)">
          </td>
          <td v-for="column in columns" :key="column.name" :class="column.kind">
            <span v-for="(part, place) in row.cells[column.name]" :key="place" class="part" :class="part.kind">
              <a v-if="part.href" data-nav :href="part.href" :title="part.title">{{ part.text }}</a>
              <button v-else-if="part.action" type="button" class="btn small" :title="part.title"
                @click="$emit('act', { action: part.action, id: row.id })">{{ part.text }}</button>
              <button v-else-if="part.filter && !part.badge" type="button" class="value" :title="part.title"
                @click="$emit('filter', part.filter)">{{ part.text }}</button>
              <button v-else-if="part.filter" type="button" class="badge" :class="part.badge" :title="part.title"
                @click="$emit('filter', part.filter)">{{ part.text }}</button>
              <span v-else-if="part.badge" class="badge" :class="part.badge" :title="part.title">{{ part.text }}</span>
              <rel-time v-else-if="part.at" :datetime="part.at"></rel-time>
              <span v-else :title="part.title">{{ part.text }}</span>
            </span>
          </td>
        </tr>
      </tbody>
    </table>
  </div>`,
  props: {
    label: String,
    columns: { type: Array, default: () => [] },
    rows: { type: Array, default: () => [] },
    selectable: Boolean,
    selected: { type: Array, default: () => [] },
    sort: String,
    order: String,
    labels: { type: Object, default: () => ({}) },
  },
  emits: ["sort", "select", "filter", "act"],
  data() {
    return { at: 0 };
  },
  computed: {
    picked() {
      return new Set(this.selected);
    },
    all() {
      return this.rows.length > 0 && this.rows.every((row) => this.picked.has(row.id));
    },
    some() {
      return this.rows.some((row) => this.picked.has(row.id));
    },
  },
  watch: {
    rows() {
      this.at = Math.min(this.at, Math.max(0, this.rows.length - 1));
    },
  },
  methods: {
    toggle(id) {
      const picked = new Set(this.selected);
      picked.has(id) ? picked.delete(id) : picked.add(id);
      this.$emit("select", [...picked]);
    },
    toggleAll(event) {
      const picked = new Set(this.selected);
      for (const row of this.rows) event.target.checked ? picked.add(row.id) : picked.delete(row.id);
      this.$emit("select", [...picked]);
    },
    onKey(event) {
      const row = event.target.closest("tr");
      if (event.target !== row || event.ctrlKey || event.metaKey || event.altKey) return;
      const step = { ArrowDown: 1, j: 1, ArrowUp: -1, k: -1 }[event.key];
      if (step) {
        const next = step > 0 ? row.nextElementSibling : row.previousElementSibling;
        next?.focus();
      } else if (event.key === "Enter") row.querySelector("a[href]")?.click();
      else if ((event.key === "x" || event.key === " ") && this.selectable) this.toggle(this.rows[this.at].id);
      else return;
      event.preventDefault();
    },
  },
};
