"""The control room: a local page that shows runs and sweeps while they train. It reads, and writes nothing.

A page is a function that takes a request and returns a response; `Room.page` makes a bounded endpoint of it:

    def routes(room: Room) -> list[BaseRoute]:
        def film(request: Request) -> Response:
            run = room.runs.run(request.path_params["run"])
            return room.render(request, "film.html", run=run)

        return [Route("/runs/{run}/episodes/{file}/{number}", room.page(film), name="film")]

and `routes` is added to `PAGES` in app.py. The function runs in a thread, with a deadline. NotFoundError (404) and
InputError (422) are shown in words: as a page, or as `{"detail": "in words"}` where the path begins with /api/ or the
request does not accept HTML. `room.json(values)` is the answer of a page's data, which stands under /api and the
address of the page. What takes long and reads no file awaits `room.run(function)`, or is an endpoint of its own.

Templates extend `page.html`, which has the blocks `title`, `opening` (below the heading), `content` and `scripts`
(for `<script type="module" src="…">`; the Content-Security-Policy forbids inline scripts and styles). They are given
`asset(name)`, the address of a file of chaosops_ray/reports/web, `run_url(id, *parts)`, and `api(address)`. Pages of
one run extend `run_frame.html`, and are given `run=room.runs.summary(id)` and `tab`, the name of the tab that they
stand under. Colours and distances are the variables at the top of chaosops_ray/reports/web/style.css.
"""
