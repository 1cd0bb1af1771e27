package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

const (
	maxSessions = 64               // kept; then all are dropped
	maxTries    = 4                // of one request that is told to come back later
	maxPause    = 30 * time.Second // between two tries
)

type sessionKey struct {
	host, repo string
	auth       brig.Auth
	actions    string // that a token shall allow: "pull", "pull,push"
}

// A session is one repository with one set of credentials: how it is reached, and the token it gave.
type session struct {
	reg      *Registry
	host     string // as references name it
	repo     string
	auth     brig.Auth
	actions  string // of a token's scope
	insecure bool
	base     url.URL // scheme and host; set by connect
	client   *http.Client

	mu      sync.Mutex
	header  string   // Authorization; "" none
	sources []string // repositories that blobs are mounted from, so that a token must allow to read them
}

// session returns the repository's session for reading, connected.
func (r *Registry) session(ctx context.Context, host, repo string, auth brig.Auth) (*session, error) {
	return r.sessionFor(ctx, sessionKey{host, repo, auth, "pull"})
}

func (r *Registry) sessionFor(ctx context.Context, key sessionKey) (*session, error) {
	r.mu.Lock()
	s := r.sessions[key]
	r.mu.Unlock()
	if s != nil {
		return s, nil
	}
	s = r.newSession(key.host, key.repo, key.auth)
	s.actions = key.actions
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.sessions) >= maxSessions {
		clear(r.sessions)
	}
	r.sessions[key] = s
	return s, nil
}

func (r *Registry) newSession(host, repo string, auth brig.Auth) *session {
	return &session{reg: r, host: host, repo: repo, auth: auth, actions: "pull"}
}

// forget drops the session, so that the next use connects anew: the registry may have changed between http and https.
func (s *session) forget() {
	s.reg.mu.Lock()
	defer s.reg.mu.Unlock()
	if key := (sessionKey{s.host, s.repo, s.auth, s.actions}); s.reg.sessions[key] == s {
		delete(s.reg.sessions, key)
	}
}

// connect finds out how the registry is reached and authorizes. As dockerd: https first, and plain http only if it is insecure.
func (s *session) connect(ctx context.Context) error {
	host := s.host
	if host == "docker.io" {
		host = "registry-1.docker.io"
	}
	s.insecure = s.reg.isInsecure(ctx, host)
	t, err := s.reg.transport(host, s.insecure)
	if err != nil {
		return err
	}
	s.client = &http.Client{Transport: t, CheckRedirect: redirect(s.insecure)}
	s.base = url.URL{Scheme: "https", Host: host}
	err = s.ping(ctx)
	if errs.Is(err, errs.Unavailable) && s.insecure && !isRefusal(err) {
		s.reg.config.Log.Debug("no https, trying http", "registry", host, "error", err)
		s.base.Scheme = "http"
		err = s.ping(ctx)
	}
	return err
}

func isRefusal(err error) bool {
	var r *refusal
	return errors.As(err, &r)
}

// ping asks for /v2/ and answers its challenge. Other answers than 401 are not looked at: what follows tells more.
func (s *session) ping(ctx context.Context) error {
	u := s.url()
	resp, err := s.send(ctx, u, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	io.Copy(io.Discard, io.LimitReader(resp.Body, 64<<10)) // so that the connection is used again
	if resp.StatusCode != http.StatusUnauthorized {
		return nil
	}
	return s.authorize(ctx, u, challenges(resp.Header))
}

// url joins the API's root with the repository and path elements; none is the root itself.
func (s *session) url(path ...string) *url.URL {
	u := s.base
	u.Path = "/v2/"
	if len(path) > 0 {
		p, query, _ := strings.Cut(strings.Join(path, "/"), "?")
		u.Path += s.repo + "/" + p
		u.RawQuery = query
	}
	return &u
}

func (s *session) setHeader(h string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.header = h
}

func (s *session) send(ctx context.Context, u *url.URL, header http.Header) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		cancel(nil)
		return nil, errs.As(errs.Invalid, err)
	}
	for k, v := range header {
		req.Header[k] = v
	}
	req.Header.Set("User-Agent", s.reg.config.UserAgent)
	s.mu.Lock()
	if s.header != "" {
		req.Header.Set("Authorization", s.header)
	}
	s.mu.Unlock()
	resp, err := s.client.Do(req)
	if err != nil {
		err = unreachable(ctx, err)
		cancel(nil)
		s.forget()
		return nil, err
	}
	resp.Body = &patient{ReadCloser: resp.Body, ctx: ctx, cancel: cancel, limit: s.reg.config.Stall}
	return resp, nil
}

// errStalled ends a request whose answer has all but stopped coming.
var errStalled = errors.New("stalled")

// leastRate is how many bytes of a body must come within the limit, unless it ends: half a kilobyte a second with the limit of 30 seconds.
const leastRate = 16 << 10

// patient is a body that must not come slower than leastRate bytes in limit. The time that its reader takes doesn't count.
type patient struct {
	io.ReadCloser
	ctx    context.Context
	cancel context.CancelCauseFunc
	limit  time.Duration
	timer  *time.Timer
	waited time.Duration // since the last time that enough had come
	came   int           // bytes since then
}

// Read implements io.Reader. Unavailable: nothing, or too little, came for too long.
func (p *patient) Read(b []byte) (int, error) {
	if p.timer == nil {
		p.timer = time.AfterFunc(p.limit, func() { p.cancel(errStalled) })
	} else {
		p.timer.Reset(p.limit - p.waited)
	}
	began := time.Now()
	n, err := p.ReadCloser.Read(b)
	p.timer.Stop()
	p.waited += time.Since(began)
	p.came += n
	switch {
	case err != nil && err != io.EOF && context.Cause(p.ctx) == errStalled:
		err = errs.New(errs.Unavailable, "the registry has sent only %d bytes in %s", p.came, p.limit)
	case p.came >= leastRate:
		p.waited, p.came = 0, 0
	}
	return n, err
}

// Close implements io.Closer.
func (p *patient) Close() error {
	err := p.ReadCloser.Close()
	p.cancel(nil)
	return err
}

// get sends a GET until it has an answer other than "later" (429, 502, 503, 504), and once more with new authorization after a 401.
// It returns 200, and 206 if ranged is not 0; everything else is an error. The caller closes the body.
func (s *session) get(ctx context.Context, u *url.URL, header http.Header, ranged int64) (*http.Response, error) {
	var a attempts
	for {
		resp, err := s.send(ctx, u, header)
		if err != nil {
			return nil, err
		}
		if resp.StatusCode == http.StatusOK || resp.StatusCode == http.StatusPartialContent && ranged > 0 {
			return resp, nil
		}
		if again, err := s.again(ctx, &a, u, resp, true); err != nil {
			return nil, err
		} else if !again {
			return nil, refused(resp)
		}
	}
}

// attempts is what one request has been through.
type attempts struct {
	authorized bool
	later      int // answers "later"
}

// again makes ready for another try after an answer that isn't the wanted one, and closes its body: new authorization after the first
// 401, a pause after "later" if the request may wait. False: resp is the answer to report, and its body is open.
func (s *session) again(ctx context.Context, a *attempts, u *url.URL, resp *http.Response, mayWait bool) (bool, error) {
	switch resp.StatusCode {
	case http.StatusUnauthorized:
		cs := challenges(resp.Header)
		if a.authorized || len(cs) == 0 {
			return false, nil
		}
		resp.Body.Close()
		a.authorized = true
		return true, s.authorize(ctx, u, cs)
	case http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		if !mayWait || a.later+1 >= maxTries {
			return false, nil
		}
		a.later++
		pause := retryAfter(resp.Header.Get("Retry-After"), a.later)
		resp.Body.Close()
		return true, s.reg.wait(ctx, pause)
	}
	return false, nil
}

// retryAfter reads the header in seconds (RFC 9110, section 10.2.3), bounded; without one, the pause doubles from half a second.
func retryAfter(h string, try int) time.Duration {
	if n, err := strconv.Atoi(h); err == nil && n >= 0 {
		return min(time.Duration(min(n, 3600))*time.Second, maxPause)
	}
	return min(time.Second/4<<try, maxPause)
}

// manifest fetches a manifest by tag or digest and verifies it. size is what its descriptor says, -1 if there is none.
func (s *session) manifest(ctx context.Context, tag string, size int64) (*document, error) {
	resp, err := s.get(ctx, s.url("manifests", tag), http.Header{"Accept": {accepted}}, 0)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	what := "manifest " + s.host + "/" + s.repo + ":" + tag
	b, err := readCapped(resp.Body, maxManifest, what)
	if err != nil {
		return nil, err
	}
	got := brig.DigestOf(b)
	if want, err := brig.ParseDigest(tag); err == nil && got != want {
		return nil, errs.New(errs.Invalid, "%s: its bytes have the digest %s", what, got)
	}
	// A tag's manifest has no digest to be held against but the one the registry itself announces.
	if said, err := brig.ParseDigest(resp.Header.Get("Docker-Content-Digest")); err == nil && got != said {
		return nil, errs.New(errs.Invalid, "%s: the registry announced %s and sent %s", what, said, got)
	}
	if size >= 0 && size != int64(len(b)) {
		return nil, errs.New(errs.Invalid, "%s: %d bytes came, %d were announced", what, len(b), size)
	}
	d, err := parseDocument(b, resp.Header.Get("Content-Type"))
	return d, errs.Wrap(err, "%s", what)
}

// choose fetches the manifest of an index for the first of the wanted platforms that it has.
func (s *session) choose(ctx context.Context, index *document, want []brig.Platform) (*document, error) {
	entry, err := pick(index, want)
	if err != nil {
		return nil, err
	}
	return s.manifest(ctx, string(entry.Digest), entry.Size)
}

// config fetches a config and verifies it.
func (s *session) config(ctx context.Context, d brig.Descriptor) ([]byte, error) {
	if d.Size > maxConfig {
		return nil, errs.New(errs.Invalid, "config %s: larger than %d bytes", d.Digest, maxConfig)
	}
	body, err := s.blob(ctx, d, 0)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	if err != nil {
		return nil, errs.Wrap(err, "config %s", d.Digest)
	}
	if got := brig.DigestOf(b); got != d.Digest {
		return nil, errs.New(errs.Invalid, "config %s: its bytes have the digest %s", d.Digest, got)
	}
	return b, nil
}

// blob opens a blob from offset on.
func (s *session) blob(ctx context.Context, d brig.Descriptor, offset int64) (io.ReadCloser, error) {
	header := http.Header{}
	if offset > 0 {
		header.Set("Range", fmt.Sprintf("bytes=%d-%d", offset, d.Size-1))
	}
	resp, err := s.get(ctx, s.url("blobs", string(d.Digest)), header, offset)
	if err != nil {
		return nil, err
	}
	start, err := startOf(resp, d.Size, offset, d.Size)
	if err != nil {
		resp.Body.Close()
		return nil, errs.Wrap(err, "blob %s", d.Digest)
	}
	body := &exact{ctx: ctx, body: resp.Body, left: d.Size - start, digest: d.Digest}
	if _, err := io.CopyN(io.Discard, body, offset-start); err != nil {
		resp.Body.Close()
		return nil, errs.Wrap(err, "blob %s", d.Digest)
	}
	return body, nil
}

// span opens the bytes of a blob from one offset to another, which is excluded, and says where they end. NotImplemented: the registry doesn't
// do ranges; if from is 0 it gives the whole blob instead.
func (s *session) span(ctx context.Context, d brig.Descriptor, from, to int64) (io.ReadCloser, int64, error) {
	header := http.Header{"Range": {fmt.Sprintf("bytes=%d-%d", from, to-1)}}
	resp, err := s.get(ctx, s.url("blobs", string(d.Digest)), header, to)
	if err != nil {
		return nil, 0, err
	}
	if resp.StatusCode == http.StatusOK {
		to = d.Size
	}
	start, err := startOf(resp, d.Size, from, to)
	if err == nil && start != from {
		err = errs.New(errs.NotImplemented, "the registry doesn't do ranges")
	}
	if err != nil {
		resp.Body.Close()
		return nil, 0, errs.Wrap(err, "blob %s", d.Digest)
	}
	return &exact{ctx: ctx, body: resp.Body, left: to - from, digest: d.Digest}, to, nil
}

// startOf says where in the blob a response begins, and refuses one whose announced range or length is not the one asked for
// (RFC 9110, sections 14.4 and 15.3.7). A registry that doesn't do ranges begins at 0, and goes to the end.
func startOf(resp *http.Response, size, offset, end int64) (int64, error) {
	start := int64(0)
	if resp.StatusCode == http.StatusPartialContent {
		start = offset
		var first, last int64
		var total string
		h := resp.Header.Get("Content-Range")
		_, err := fmt.Sscanf(h, "bytes %d-%d/%s", &first, &last, &total)
		if err != nil || first != offset || last != end-1 || (total != "*" && total != strconv.FormatInt(size, 10)) {
			return 0, errs.New(errs.Invalid, "asked for bytes %d-%d of %d, the registry answers with %q", offset, end-1, size, h)
		}
	} else {
		end = size
	}
	if resp.ContentLength >= 0 && resp.ContentLength != end-start {
		return 0, errs.New(errs.Invalid, "the registry sends %d bytes, %d were announced", resp.ContentLength, end-start)
	}
	return start, nil
}

// exact reads a body that must have exactly left further bytes.
type exact struct {
	ctx    context.Context
	body   io.ReadCloser
	left   int64
	digest brig.Digest
}

// Read implements io.Reader.
func (e *exact) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	n, err := e.body.Read(p[:min(int64(len(p)), e.left+1)])
	if int64(n) > e.left {
		n = int(e.left)
		e.left = 0
		return n, errs.New(errs.Invalid, "blob %s: the registry sends more bytes than announced", e.digest)
	}
	e.left -= int64(n)
	switch {
	case err == io.EOF && e.left > 0:
		err = errs.New(errs.Unavailable, "blob %s: %d bytes are missing: %w", e.digest, e.left, io.ErrUnexpectedEOF)
	case err != nil && err != io.EOF && !canceled(e.ctx, err):
		err = errs.New(errs.Unavailable, "blob %s: %w", e.digest, err)
	}
	return n, err
}

// Close implements io.Closer.
func (e *exact) Close() error { return e.body.Close() }

// tagPage reads one page of a tag list and says where the next one is; a next page on another host is refused.
func (s *session) tagPage(ctx context.Context, u *url.URL) ([]string, *url.URL, error) {
	resp, err := s.get(ctx, u, nil, 0)
	if err != nil {
		return nil, nil, err
	}
	defer resp.Body.Close()
	b, err := readCapped(resp.Body, maxTags, "tags of "+s.repo)
	if err != nil {
		return nil, nil, err
	}
	var page struct{ Tags []string }
	if err := json.Unmarshal(b, &page); err != nil {
		return nil, nil, errs.New(errs.Invalid, "tags of %s: %w", s.repo, err)
	}
	link := resp.Header.Get("Link")
	target, rel, ok := strings.Cut(strings.TrimPrefix(link, "<"), ">")
	if !ok || !strings.Contains(rel, `rel="next"`) {
		return page.Tags, nil, nil
	}
	next, err := u.Parse(target)
	if err != nil || next.Host != u.Host || next.Scheme != u.Scheme {
		return nil, nil, errs.New(errs.Invalid, "tags of %s: the registry leads elsewhere: %q", s.repo, target)
	}
	return page.Tags, next, nil
}
