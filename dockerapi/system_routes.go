package dockerapi

import (
	"context"
	"net/http"

	"github.com/moby/moby/api/types/registry"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func (s *Server) systemRoutes() []route {
	return []route{
		{"HEAD", "/_ping", s.ping, 24},
		{"GET", "/_ping", s.ping, 24},
		{"GET", "/version", s.versionInfo, 24},
		{"GET", "/info", s.info, 24},
		{"POST", "/auth", s.auth, 24},
		{"GET", "/events", s.events, 24},
		{"GET", "/system/df", s.diskUsage, 25},

		{"GET", "/plugins", s.pluginList, 25},
		{"GET", "/plugins/privileges", s.noPlugins, 25},
		{"POST", "/plugins/pull", s.noPlugins, 25},
		{"POST", "/plugins/create", s.noPlugins, 25},
		{"GET", "/plugins/{name:.*}/json", s.pluginGet, 25},
		{"DELETE", "/plugins/{name:.*}", s.pluginGet, 25},
		{"POST", "/plugins/{name:.*}/enable", s.pluginGet, 25},
		{"POST", "/plugins/{name:.*}/disable", s.pluginGet, 25},
		{"POST", "/plugins/{name:.*}/upgrade", s.pluginGet, 26},
		{"POST", "/plugins/{name:.*}/push", s.pluginGet, 25},
		{"POST", "/plugins/{name:.*}/set", s.pluginGet, 25},

		{"GET", "/distribution/{name:.*}/json", s.distribution, 30},
	}
}

// ping announces the classic builder, so that clients don't try BuildKit.
func (s *Server) ping(_ context.Context, r *request) (response, error) {
	return func(a *answer) error {
		h := a.Header()
		h.Set("Builder-Version", "1")
		h.Set("Swarm", "inactive")
		h.Set("Cache-Control", "no-cache, no-store, must-revalidate")
		h.Set("Pragma", "no-cache")
		h.Set("Content-Type", "text/plain; charset=utf-8")
		if r.Method == http.MethodHead {
			h.Set("Content-Length", "0")
			a.WriteHeader(http.StatusOK)
			return nil
		}
		_, err := a.Write([]byte("OK"))
		return err
	}, nil
}

func (s *Server) auth(ctx context.Context, r *request) (response, error) {
	var c registry.AuthConfig
	if err := r.decode(&c); err != nil {
		return nil, err
	}
	server := c.ServerAddress
	if server == "" {
		server = indexServer
	}
	status, err := s.System.CheckAuth(ctx, server, authOf(c))
	if err != nil {
		return nil, err
	}
	if status == "" {
		status = "Login Succeeded"
	}
	return asJSON(http.StatusOK, struct{ IdentityToken, Status string }{"", status}), nil
}

// authOf takes what brig needs of a client's credentials. The field auth is base64 of user:password.
func authOf(c registry.AuthConfig) brig.Auth {
	a := brig.Auth{Username: c.Username, Password: c.Password, IdentityToken: c.IdentityToken, RegistryToken: c.RegistryToken}
	if a.Username == "" && c.Auth != "" {
		a.Username, a.Password = splitBasic(c.Auth)
	}
	return a
}

func (s *Server) pluginList(_ context.Context, r *request) (response, error) {
	if _, err := r.filters("capability", "enabled"); err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, []struct{}{}), nil
}

// pluginGet answers whatever asks for one plugin: there is none.
func (s *Server) pluginGet(_ context.Context, r *request) (response, error) {
	return nil, errs.New(errs.NotFound, "plugin %q not found", r.vars["name"])
}

func (s *Server) noPlugins(context.Context, *request) (response, error) {
	return nil, errs.New(errs.NotImplemented, "brig has no plugins: volume, network and log drivers are built in")
}
