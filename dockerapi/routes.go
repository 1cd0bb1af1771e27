package dockerapi

import (
	"context"
	"net/http"
	"regexp"
	"slices"

	"github.com/gorilla/mux"
)

// A route is one row of the table. docs/api-coverage.md has a row for each, and a test compares the two.
type route struct {
	method, path string // path is a gorilla/mux pattern without the version
	h            handler
	// since is the API version that brought the endpoint. It is for the reader: like dockerd, brig answers older clients too.
	since Version
}

// unversioned marks the routes that are brig's own: they have no /v1.N in front.
const unversioned Version = 0

// routes is the whole table. The first row that matches wins.
func (s *Server) routes() []route {
	return slices.Concat(s.systemRoutes(), s.buildRoutes(), s.containerRoutes(), s.imageRoutes(), s.volumeRoutes(), s.networkRoutes(), s.swarmRoutes(), s.brigRoutes(), s.podRoutes())
}

func (s *Server) newMux() *mux.Router {
	m := mux.NewRouter()
	for _, rt := range s.routes() {
		h := s.adapt(template(rt.path), rt.h)
		if rt.since != unversioned {
			m.Methods(rt.method).Path("/v{version:[0-9.]+}" + rt.path).Handler(h)
		}
		m.Methods(rt.method).Path(rt.path).Handler(h)
	}
	unknown := s.adapt("", func(context.Context, *request) (response, error) { return nil, pageNotFound() })
	m.Handle("/v{version:[0-9.]+}/{path:.*}", unknown)
	m.NotFoundHandler, m.MethodNotAllowedHandler = unknown, unknown
	return m
}

// pattern is what a variable of a mux pattern must match.
var pattern = regexp.MustCompile(`:[^{}]+\}`)

// template is a route's path without the patterns of its variables.
func template(path string) string { return pattern.ReplaceAllString(path, "}") }

// adapt makes a handler an http.Handler. route is its template.
func (s *Server) adapt(route string, h handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, hr *http.Request) {
		a := w.(*answer) // ServeHTTP made it
		a.route = route
		vars := mux.Vars(hr)
		v, err := parseVersion(vars["version"])
		if err != nil {
			writeError(a, err)
			return
		}
		s.serve(h, a, &request{Request: hr, vars: vars, query: hr.URL.Query(), version: v, reading: a.reading})
	})
}
