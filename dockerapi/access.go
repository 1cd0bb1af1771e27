package dockerapi

import (
	"net"
	"net/http"

	"github.com/brigd/brig/internal/errs"
)

// checkAccess keeps web pages out of a TCP socket: a browser on this host can reach loopback addresses too. It names itself by an Origin
// header, or, where a page has bound its own name to a loopback address, by that name as Host. On the Unix socket its mode decides.
func checkAccess(r *http.Request) error {
	local, _ := r.Context().Value(http.LocalAddrContextKey).(net.Addr)
	if local == nil || local.Network() != "tcp" {
		return nil
	}
	if origin := r.Header.Get("Origin"); origin != "" {
		return errs.New(errs.Forbidden, "requests from web pages (%s) are refused", origin)
	}
	if r.TLS != nil {
		return nil // a certificate says more than a name
	}
	name, _, err := net.SplitHostPort(r.Host)
	if err != nil {
		name = r.Host
	}
	if !loopbackName(name) {
		return errs.New(errs.Forbidden, "requests to %q are refused: name this host by a loopback address", r.Host)
	}
	return nil
}
