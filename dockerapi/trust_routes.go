package dockerapi

import (
	"context"
	"net/http"

	"github.com/brigd/brig/internal/errs"
)

// trustRequest is the body of POST /brig/v1/trust and /brig/v1/trust/find.
type trustRequest struct {
	Prefix   string // of ACI names
	Root     bool   // for all names, instead of Prefix
	Key      string // a keyring, armoured
	Raw      []byte // or one that isn't
	URL      string // find: where a keyring is
	Insecure bool   // find: servers may have bad certificates or speak plain http
}

// ring is the keyring that came along.
func (t *trustRequest) ring() []byte {
	if t.Key != "" {
		return []byte(t.Key)
	}
	return t.Raw
}

// trustedFor checks that it is said where the key shall be trusted: nobody shall make a root key by leaving something out.
func trustedFor(prefix string, root bool) error {
	if (prefix == "") != root {
		return errs.New(errs.Invalid, "say either a prefix of ACI names or that it is a root key")
	}
	return nil
}

func (s *Server) trustList(ctx context.Context, _ *request) (response, error) {
	keys, err := s.Trust.TrustList(ctx)
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, nonNil(keys)), nil
}

// trustFind shows keys, so that a person can decide; TrustAdd then gets exactly those.
func (s *Server) trustFind(ctx context.Context, r *request) (response, error) {
	var t trustRequest
	if err := r.decode(&t); err != nil {
		return nil, err
	}
	keys, err := s.Trust.TrustFind(ctx, t.Prefix, t.URL, t.ring(), t.Insecure)
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusOK, nonNil(keys)), nil
}

func (s *Server) trustAdd(ctx context.Context, r *request) (response, error) {
	var t trustRequest
	if err := r.decode(&t); err != nil {
		return nil, err
	}
	if err := trustedFor(t.Prefix, t.Root); err != nil {
		return nil, err
	}
	keys, err := s.Trust.TrustAdd(ctx, t.Prefix, t.ring())
	if err != nil {
		return nil, err
	}
	return asJSON(http.StatusCreated, nonNil(keys)), nil
}

func (s *Server) trustRemove(ctx context.Context, r *request) (response, error) {
	prefix := r.query.Get("prefix")
	if err := trustedFor(prefix, r.flag("root")); err != nil {
		return nil, err
	}
	if err := s.Trust.TrustRemove(ctx, prefix, r.vars["fingerprint"]); err != nil {
		return nil, err
	}
	return noBody(http.StatusNoContent), nil
}
