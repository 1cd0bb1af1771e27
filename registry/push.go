package registry

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// pushSession is the session of a repository that will be written to.
func (r *Registry) pushSession(ctx context.Context, repository string, auth brig.Auth) (*session, reference.Named, error) {
	named, err := parseRef(repository)
	if err != nil {
		return nil, nil, err
	}
	s, err := r.sessionFor(ctx, sessionKey{reference.Domain(named), reference.Path(named), auth, "pull,push"})
	return s, named, pushError(err)
}

// pushError puts the lack of a password in the words that dockerd has for it in a push.
func pushError(err error) error {
	const words = "no basic auth credentials"
	if errs.Is(err, errs.Unauthorized) && strings.HasSuffix(err.Error(), words) {
		return errs.New(errs.Unauthorized, words)
	}
	return err
}

// HasBlob reports whether the repository has a blob.
func (r *Registry) HasBlob(ctx context.Context, repository string, d brig.Digest, auth brig.Auth) (bool, error) {
	s, _, err := r.pushSession(ctx, repository, auth)
	if err != nil {
		return false, err
	}
	resp, err := s.write(ctx, outgoing{method: http.MethodHead, u: s.url("blobs", string(d))}, http.StatusOK, http.StatusNotFound)
	if err != nil {
		return false, pushError(err)
	}
	resp.Body.Close()
	return resp.StatusCode == http.StatusOK, nil
}

// PutBlob brings a blob into the repository. from, unless "", is a repository of the same registry that may have it: the registry is asked
// to take it from there, and if it does so, open is not called. The registry verifies the digest. open may be called several times.
func (r *Registry) PutBlob(ctx context.Context, repository, from string, d brig.Descriptor, open func() (io.ReadCloser, error), auth brig.Auth) (mounted bool, err error) {
	s, _, err := r.pushSession(ctx, repository, auth)
	if err != nil {
		return false, err
	}
	begin := s.url("blobs", "uploads/")
	if from != "" {
		source, err := parseRef(from)
		if err != nil {
			return false, err
		}
		begin.RawQuery = url.Values{"mount": {string(d.Digest)}, "from": {reference.Path(source)}}.Encode()
		s.mountsFrom(reference.Path(source))
	}
	resp, err := s.write(ctx, outgoing{method: http.MethodPost, u: begin}, http.StatusAccepted, http.StatusCreated)
	if from != "" && isRefusal(err) && !errs.Is(err, errs.Unavailable) { // whoever may not read there may still upload
		begin.RawQuery = ""
		resp, err = s.write(ctx, outgoing{method: http.MethodPost, u: begin}, http.StatusAccepted, http.StatusCreated)
	}
	if err != nil {
		return false, pushError(err)
	}
	resp.Body.Close()
	if resp.StatusCode == http.StatusCreated {
		return true, nil
	}
	at, err := location(resp)
	if err != nil {
		return false, err
	}
	return false, pushError(s.upload(ctx, at, d, open))
}

// maxSources bounds the repositories that one token is asked for.
const maxSources = 20

// mountsFrom has the next token allow to read another repository; distribution's registry asks for that with a 401.
func (s *session) mountsFrom(repo string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !slices.Contains(s.sources, repo) && len(s.sources) < maxSources {
		s.sources = append(s.sources, repo)
	}
}

func (s *session) mountable() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.sources)
}

// upload sends a blob's bytes in one piece to where the registry wants them (OCI distribution specification, "Pushing blobs").
func (s *session) upload(ctx context.Context, at *url.URL, d brig.Descriptor, open func() (io.ReadCloser, error)) error {
	header := http.Header{"Content-Type": {"application/octet-stream"}}
	resp, err := s.write(ctx, outgoing{http.MethodPatch, at, header, open, d.Size}, http.StatusAccepted, http.StatusNoContent)
	if err != nil {
		return err
	}
	resp.Body.Close()
	if at, err = location(resp); err != nil {
		return err
	}
	q := at.Query()
	q.Set("digest", string(d.Digest))
	at.RawQuery = q.Encode()
	if resp, err = s.write(ctx, outgoing{method: http.MethodPut, u: at, header: header}, http.StatusCreated, http.StatusNoContent); err != nil {
		return err
	}
	return resp.Body.Close()
}

// PutManifest stores exact bytes under ref, which is repository:tag. All that they name must be there.
func (r *Registry) PutManifest(ctx context.Context, ref, mediaType string, manifest []byte, auth brig.Auth) error {
	s, named, err := r.pushSession(ctx, ref, auth)
	if err != nil {
		return err
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(string(manifest))), nil }
	resp, err := s.write(ctx, outgoing{http.MethodPut, s.url("manifests", tagOrDigest(named)), http.Header{"Content-Type": {mediaType}}, open, int64(len(manifest))},
		http.StatusCreated, http.StatusOK, http.StatusAccepted)
	if err != nil {
		return pushError(err)
	}
	defer resp.Body.Close()
	if said, err := brig.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err == nil && said != brig.DigestOf(manifest) {
		return errs.New(errs.Invalid, "pushed the manifest %s, the registry has stored %s", brig.DigestOf(manifest), said)
	}
	return nil
}

// location is where an answer leads to; it may be relative.
func location(resp *http.Response) (*url.URL, error) {
	u, err := resp.Location()
	if err != nil || (u.Scheme != "https" && u.Scheme != "http") {
		return nil, errs.New(errs.Invalid, "the registry does not say where to upload to: %q", resp.Header.Get("Location"))
	}
	if u.Scheme == "http" && resp.Request.URL.Scheme == "https" {
		return nil, errs.New(errs.Forbidden, "the registry is secure and wants the upload at %q, which is not", u)
	}
	return u, nil
}

// outgoing is a request that changes a registry. open gives its body of size bytes; nil: none.
type outgoing struct {
	method string
	u      *url.URL
	header http.Header
	open   func() (io.ReadCloser, error)
	size   int64
}

// write sends o, once more with new authorization after a 401, and later if it is told so and is no blob, of which a part may have arrived. Any status but those wanted is
// an error. The caller closes the body.
func (s *session) write(ctx context.Context, o outgoing, want ...int) (*http.Response, error) {
	var a attempts
	for {
		resp, err := s.sendOut(ctx, o)
		if err != nil {
			return nil, err
		}
		if slices.Contains(want, resp.StatusCode) {
			return resp, nil
		}
		if again, err := s.again(ctx, &a, o.u, resp, o.method != http.MethodPatch); err != nil {
			return nil, err
		} else if !again {
			return nil, refused(resp)
		}
	}
}

// sendOut sends o as it is. The credentials go to the registry's own host only.
func (s *session) sendOut(ctx context.Context, o outgoing) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, o.method, o.u.String(), nil)
	if err != nil {
		return nil, errs.As(errs.Invalid, err)
	}
	for k, v := range o.header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", s.reg.config.UserAgent)
	if o.open != nil {
		if req.Body, err = o.open(); err != nil {
			return nil, err
		}
		req.GetBody, req.ContentLength = o.open, o.size
	}
	s.mu.Lock()
	if s.header != "" && o.u.Host == s.base.Host {
		req.Header.Set("Authorization", s.header)
	}
	s.mu.Unlock()
	resp, err := s.client.Do(req)
	if err != nil {
		s.forget()
		return nil, unreachable(ctx, err)
	}
	return resp, nil
}
