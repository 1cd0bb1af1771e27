package dockerapi

import (
	"context"
	"net/http"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// identityVerify checks that the pod ?uuid has signed the request's body: ?signature is what its metadata service answered. 204: it has;
// 403: it hasn't, or the key that it was signed with is no longer valid.
func (s *Server) identityVerify(ctx context.Context, r *request) (response, error) {
	uuid, signature := r.query.Get("uuid"), r.query.Get("signature")
	if uuid == "" || signature == "" {
		return nil, errs.New(errs.Invalid, "the query needs uuid and signature")
	}
	ok, err := s.Identities.VerifySignature(ctx, uuid, signature, r.Body)
	if err != nil {
		return nil, err
	}
	if !ok {
		return nil, errs.New(errs.Forbidden, "the signature is not pod %s's of this content", uuid)
	}
	return noBody(http.StatusNoContent), nil
}

// identityKeys answers with the public keys that verify identity tokens.
func (s *Server) identityKeys(ctx context.Context, _ *request) (response, error) {
	set, err := s.Identities.JWKS(ctx)
	if err != nil {
		return nil, err
	}
	return asBytes("application/jwk-set+json", set), nil
}

// metadataRotate makes a new signing key. Old signatures verify for ?keep seconds more.
func (s *Server) metadataRotate(ctx context.Context, r *request) (response, error) {
	keep, err := r.number("keep", 0)
	if err != nil {
		return nil, err
	}
	const most = 10 * 365 * 24 * 3600
	if !r.query.Has("keep") || keep < 0 || keep > most {
		return nil, errs.New(errs.Invalid, "keep must say for how many seconds old signatures verify, 0 to %d", most)
	}
	if err := s.Identities.Rotate(ctx, time.Duration(keep)*time.Second); err != nil {
		return nil, err
	}
	return noBody(http.StatusNoContent), nil
}
