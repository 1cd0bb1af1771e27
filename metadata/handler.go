package metadata

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"sync/atomic"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

const (
	maxBody   = 256 << 10       // bytes of a request's body; a content of 64 KiB in any form fits
	smallBody = 8 << 10         // up to this many all pods may send at once; larger bodies wait for each other
	bodyWait  = 2 * time.Second // for the turn of a larger body
	maxLarge  = 4               // larger bodies at once
	maxAud    = 8               // audiences of one JWT
	maxAudLen = 256             // bytes of each
)

// Content types of the appc spec (0.8.11, ace.md), and of a JWT (RFC 7519, 10.3.1).
const (
	textType = "text/plain; charset=us-ascii"
	jsonType = "application/json"
	jwtType  = "application/jwt"
)

// Service answers pods. It knows them by where they call from and by their tokens, and holds no state of its own but keys and pods.
type service struct {
	pods   *pods
	keys   atomic.Pointer[Keys]
	issuer atomic.Pointer[string] // of JWTs
	large  chan struct{}          // has room for maxLarge
	access *slog.Logger
}

func newService(p *pods, access *slog.Logger) *service {
	return &service{pods: p, large: make(chan struct{}, maxLarge), access: access}
}

// refusal is an answer that is no success. Its text is the whole body.
type refusal struct {
	status int
	text   string
	retry  string // seconds until it may be better; "": it won't
	allow  string // methods, for 405
	close  bool   // the connection ends
}

func (r *refusal) Error() string { return r.text }

func refuse(status int, text string) *refusal { return &refusal{status: status, text: text} }

// errStranger is the answer to everybody who isn't a pod at its place with its token: it doesn't say which of these was wrong.
var errStranger = &refusal{status: http.StatusForbidden, text: "forbidden", close: true}

// ServeHTTP implements http.Handler. The log's path is that after the token, which is a secret.
func (s *service) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	source, gateway := ends(r)
	p, path := s.who(source, gateway, r.URL.Path)
	var contentType string
	var body []byte
	var err error = errStranger
	if p != nil {
		contentType, body, err = s.answer(w, r, p, path)
	}
	status := http.StatusOK
	if err != nil {
		var no *refusal
		if !errors.As(err, &no) {
			no = refuse(http.StatusInternalServerError, "internal error")
			s.access.Error("a request failed", "path", path, "err", err)
		}
		status, contentType, body = no.status, textType, []byte(no.text+"\n")
		if no.retry != "" {
			w.Header().Set("Retry-After", no.retry)
		}
		if no.allow != "" {
			w.Header().Set("Allow", no.allow)
		}
		if no.close {
			w.Header().Set("Connection", "close")
		}
	}
	w.Header().Set("Content-Type", contentType)
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(status)
	n, _ := w.Write(body) // the client may have gone
	s.note(p, r.Method, path, source, gateway, status, n, time.Since(began))
}

// strangers limits the lines of the access log for all whom no pod is known of.
var strangers = &pod{uuid: "-", lines: newBucket(lineRate)}

// note writes a line of the access log, or counts it with those that are left out.
func (s *service) note(p *pod, method, path string, source, gateway netip.Addr, status, n int, took time.Duration) {
	if p == nil {
		p, path = strangers, "-"
	}
	if !p.lines.take() {
		p.hidden.Add(1)
		return
	}
	attrs := []slog.Attr{slog.String("pod", p.uuid), slog.Any("source", source), slog.Any("gateway", gateway), slog.String("method", method),
		slog.String("path", path), slog.Int("status", status), slog.Int("bytes", n), slog.Duration("took", took)}
	if left := p.hidden.Swap(0); left > 0 {
		attrs = append(attrs, slog.Int64("leftOut", left))
	}
	s.access.LogAttrs(context.Background(), slog.LevelInfo, "request", attrs...)
}

// ends are a connection's, as Places have them.
func ends(r *http.Request) (source, gateway netip.Addr) {
	if a, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
		source = plain(a.Addr())
	}
	if a, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok {
		gateway = plain(a.AddrPort().Addr())
	}
	return source, gateway
}

// tokenMark precedes the token in a path.
const tokenMark = "/~"

// who is the pod that a request is from, and the path after its token; nil: a stranger. All pods of that place are looked at.
func (s *service) who(source, gateway netip.Addr, path string) (found *pod, rest string) {
	keys := s.keys.Load()
	path, ok := strings.CutPrefix(path, tokenMark)
	if !ok || keys == nil {
		return nil, ""
	}
	token, rest, _ := strings.Cut(path, "/")
	for _, p := range s.pods.at(source, gateway) {
		if keys.isToken(p.uuid, token) {
			found = p
		}
	}
	return found, "/" + rest
}

// answer serves a request of p.
func (s *service) answer(w http.ResponseWriter, r *http.Request, p *pod, path string) (contentType string, body []byte, err error) {
	if !p.rate.take() {
		return "", nil, &refusal{status: http.StatusTooManyRequests, text: "too many requests", retry: "1"}
	}
	method, do := s.route(path)
	switch {
	case do == nil:
		return "", nil, refuse(http.StatusNotFound, "not found")
	case method == http.MethodGet && r.Method == http.MethodHead:
	case method != r.Method:
		allow := method
		if method == http.MethodGet {
			allow = "GET, HEAD"
		}
		return "", nil, &refusal{status: http.StatusMethodNotAllowed, text: "method not allowed", allow: allow}
	}
	return do(w, r, p)
}

// handler makes an answer for a pod.
type handler func(w http.ResponseWriter, r *http.Request, p *pod) (contentType string, body []byte, err error)

// route finds what serves a path, and its method.
func (s *service) route(path string) (method string, h handler) {
	switch path {
	case "/acMetadata/v1/pod/annotations":
		return http.MethodGet, s.document(func(id *brig.PodIdentity) (json.RawMessage, error) { return list(id.Annotations), nil })
	case "/acMetadata/v1/pod/manifest":
		return http.MethodGet, s.document(func(id *brig.PodIdentity) (json.RawMessage, error) { return id.Manifest, known(len(id.Manifest) > 0) })
	case "/acMetadata/v1/pod/uuid":
		return http.MethodGet, func(_ http.ResponseWriter, _ *http.Request, p *pod) (string, []byte, error) {
			return textType, []byte(p.uuid), nil
		}
	case "/acMetadata/v1/pod/hmac/sign":
		return http.MethodPost, s.sign
	case "/acMetadata/v1/pod/hmac/verify":
		return http.MethodPost, s.verify
	case "/brig/v1/identity":
		return http.MethodGet, s.identity
	case "/brig/v1/jwks":
		return http.MethodGet, s.jwks
	}
	if rest, ok := strings.CutPrefix(path, "/acMetadata/v1/apps/"); ok {
		if name, what, ok := strings.Cut(rest, "/"); ok {
			return http.MethodGet, s.app(name, what)
		}
	}
	return "", nil
}

// known is the refusal of what depends on an image ID that isn't known yet: it is computed after a pull.
func known(ok bool) error {
	if ok {
		return nil
	}
	return &refusal{status: http.StatusServiceUnavailable, text: "the image ID is still being computed", retry: "1"}
}

// list is a JSON array that may be absent.
func list(raw json.RawMessage) json.RawMessage {
	if len(raw) == 0 {
		return json.RawMessage("[]")
	}
	return raw
}

// load reads what is published of p.
func (s *service) load(p *pod) (*brig.PodIdentity, error) {
	id, err := s.pods.read(p.uuid)
	if errors.Is(err, fs.ErrNotExist) { // it has just ended
		return nil, errStranger
	}
	return id, err
}

func (s *service) document(of func(*brig.PodIdentity) (json.RawMessage, error)) handler {
	return func(_ http.ResponseWriter, _ *http.Request, p *pod) (string, []byte, error) {
		id, err := s.load(p)
		if err != nil {
			return "", nil, err
		}
		doc, err := of(id)
		return jsonType, doc, err
	}
}

// app serves what there is of one app; nil: there is no such document.
func (s *service) app(name, what string) handler {
	var of func(a *brig.AppIdentity) (string, []byte, error)
	switch what {
	case "annotations":
		of = func(a *brig.AppIdentity) (string, []byte, error) { return jsonType, list(a.Annotations), nil }
	case "image/manifest":
		of = func(a *brig.AppIdentity) (string, []byte, error) {
			if len(a.Image) == 0 {
				return "", nil, refuse(http.StatusNotFound, "the image is gone")
			}
			return jsonType, a.Image, nil
		}
	case "image/id":
		of = func(a *brig.AppIdentity) (string, []byte, error) {
			return textType, []byte(a.ImageID), known(a.ImageID != "")
		}
	default:
		return nil
	}
	return func(_ http.ResponseWriter, _ *http.Request, p *pod) (string, []byte, error) {
		id, err := s.load(p)
		if err != nil {
			return "", nil, err
		}
		for i := range id.Apps {
			if id.Apps[i].Name == name {
				return of(&id.Apps[i])
			}
		}
		return "", nil, refuse(http.StatusNotFound, "no such app")
	}
}

// form reads the body of a POST: exactly the fields of names, each once.
func (s *service) form(w http.ResponseWriter, r *http.Request, p *pod, names ...string) (url.Values, error) {
	if t, _, _ := strings.Cut(r.Header.Get("Content-Type"), ";"); !strings.EqualFold(strings.TrimSpace(t), "application/x-www-form-urlencoded") {
		return nil, refuse(http.StatusUnsupportedMediaType, "the body must be application/x-www-form-urlencoded")
	}
	if r.ContentLength > maxBody {
		_, _ = io.Copy(io.Discard, http.MaxBytesReader(w, r.Body, maxBody)) // after that net/http waits for the client to read the answer
		return nil, errTooLarge
	}
	if r.ContentLength < 0 || r.ContentLength > smallBody {
		done, err := s.turn(r.Context(), p)
		if err != nil {
			return nil, err
		}
		defer done()
	}
	b, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	var tooLarge *http.MaxBytesError
	if errors.As(err, &tooLarge) {
		return nil, errTooLarge
	}
	if err != nil {
		return nil, &refusal{status: http.StatusBadRequest, text: "the body could not be read", close: true}
	}
	v, err := url.ParseQuery(string(b))
	if err != nil {
		return nil, refuse(http.StatusBadRequest, "the body is no form")
	}
	for _, n := range names {
		if len(v[n]) != 1 {
			return nil, refuse(http.StatusBadRequest, "the form must have one field "+n)
		}
	}
	return v, nil
}

var errTooLarge = &refusal{status: http.StatusRequestEntityTooLarge, text: "the body is too large", close: true}

// turn waits until p may send a large body: one of each pod's and maxLarge in all, so that memory stays small.
func (s *service) turn(ctx context.Context, p *pod) (done func(), err error) {
	ctx, cancel := context.WithTimeout(ctx, bodyWait)
	defer cancel()
	busy := &refusal{status: http.StatusServiceUnavailable, text: "too many large requests at once", retry: "1", close: true}
	select {
	case p.large <- struct{}{}:
	case <-ctx.Done():
		return nil, busy
	}
	select {
	case s.large <- struct{}{}:
	case <-ctx.Done():
		<-p.large
		return nil, busy
	}
	return func() { <-s.large; <-p.large }, nil
}

// sign makes the HMAC of ace.md: content is a field of a form, the answer its signature in base64.
func (s *service) sign(w http.ResponseWriter, r *http.Request, p *pod) (string, []byte, error) {
	v, err := s.form(w, r, p, "content")
	if err != nil {
		return "", nil, err
	}
	return textType, []byte(s.keys.Load().sign(p.uuid, v.Get("content"))), nil
}

// verify answers 200 if a pod of this instance, which may have ended, has signed content, else 403.
func (s *service) verify(w http.ResponseWriter, r *http.Request, p *pod) (string, []byte, error) {
	v, err := s.form(w, r, p, "content", "uuid", "signature")
	if err != nil {
		return "", nil, err
	}
	uuid := strings.ToLower(v.Get("uuid"))
	if !uuidRE.MatchString(uuid) {
		return "", nil, refuse(http.StatusBadRequest, "uuid is no UUID")
	}
	ok, err := s.keys.Load().Verify(uuid, v.Get("signature"), strings.NewReader(v.Get("content")))
	if err != nil {
		return "", nil, err
	}
	if !ok {
		return "", nil, refuse(http.StatusForbidden, "the signature is not this pod's of this content")
	}
	return textType, []byte("OK\n"), nil
}

// identity issues a JWT for the audiences of the query.
func (s *service) identity(_ http.ResponseWriter, r *http.Request, p *pod) (string, []byte, error) {
	aud := r.URL.Query()["aud"]
	if len(aud) == 0 || len(aud) > maxAud {
		return "", nil, refuse(http.StatusBadRequest, "say by aud whom the token is for, once for each of up to 8")
	}
	for _, a := range aud {
		if a == "" || len(a) > maxAudLen {
			return "", nil, refuse(http.StatusBadRequest, "an aud is empty or longer than 256 bytes")
		}
	}
	id, err := s.load(p)
	if err != nil {
		return "", nil, err
	}
	apps := make([]appClaim, 0, len(id.Apps))
	for _, a := range id.Apps {
		apps = append(apps, appClaim{a.Name, a.ImageID})
	}
	text, err := s.keys.Load().issue(*s.issuer.Load(), p.uuid, apps, aud)
	return jwtType, []byte(text), err
}

func (s *service) jwks(http.ResponseWriter, *http.Request, *pod) (string, []byte, error) {
	set, err := s.keys.Load().JWKS()
	return "application/jwk-set+json", set, errs.Wrap(err, "list the public keys")
}
