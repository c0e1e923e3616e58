"""The web console for operators. It speaks HTTP to the admin API and holds nothing of the data plane.

Where it stands in the walk: `app` serves a browser; `client` asks the admin API, with the shapes of
`admin_api.schemas`, for a row that the jobs wrote; a page puts it on the screen.
"""
