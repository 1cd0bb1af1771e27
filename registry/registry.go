// Package registry resolves and reads images in Docker and OCI registries (the distribution API, version 2).
//
// Nothing that a registry says is believed: manifests and configs are verified against the digest that named them and against
// their size before they are parsed, layers are read with their announced length enforced (whoever stores them verifies the digest),
// and documents and lists are capped. Errors are in dockerd's words, since people and scripts know those.
package registry

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"net/url"
	"runtime"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/distribution/reference"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// Caps on what is read into memory, in bytes.
const (
	maxManifest = 4 << 20
	maxConfig   = 8 << 20
	maxTags     = 4 << 20 // one page of a tag list
	maxToken    = 1 << 20
)

// maxTagPages bounds how long a tag list may go on.
const maxTagPages = 1000

// Config says how to reach registries. Its zero value is usable.
type Config struct {
	// Insecure names registries, as host, host:port or CIDR, that may have bad certificates or speak plain http.
	// localhost, 127.0.0.0/8 and ::1 always may.
	Insecure []string
	// CertsDir holds <host[:port]>/*.crt (authorities), *.cert with *.key (client certificates), as /etc/docker/certs.d does; "" none.
	CertsDir  string
	UserAgent string // "": brig
	// Stall is how long a registry may send nothing, or of an answer less than 16 KiB, while it is waited for; 0: 30 seconds.
	Stall time.Duration
	Log   *slog.Logger // nil: none
	// Platforms are looked for in indexes when nobody asks for one, the best first; none: what this host runs by itself.
	Platforms []brig.Platform
}

// A Registry is a client of any number of registries. Its methods may be used from several goroutines.
type Registry struct {
	config Config
	hosts  map[string]bool
	nets   []netip.Prefix
	wait   func(ctx context.Context, d time.Duration) error // for Retry-After

	mu         sync.Mutex
	transports map[string]*http.Transport // by API host
	sessions   map[sessionKey]*session
}

// New checks the configuration. Close releases the connections.
func New(c Config) (*Registry, error) {
	r := &Registry{config: c, hosts: map[string]bool{}, wait: sleep, transports: map[string]*http.Transport{}, sessions: map[sessionKey]*session{}}
	for _, s := range append([]string{"127.0.0.0/8", "::1/128", "localhost"}, c.Insecure...) {
		s = strings.ToLower(strings.TrimSpace(s))
		if p, err := netip.ParsePrefix(s); err == nil {
			r.nets = append(r.nets, p)
			continue
		}
		s = strings.TrimPrefix(strings.TrimPrefix(s, "http://"), "https://")
		if s == "" || strings.Contains(s, "/") {
			return nil, errs.New(errs.Invalid, "insecure registry %q: want host, host:port or a network in CIDR notation", s)
		}
		r.hosts[s] = true
	}
	if r.config.Log == nil {
		r.config.Log = slog.New(slog.DiscardHandler)
	}
	if r.config.Stall == 0 {
		r.config.Stall = 30 * time.Second
	}
	if r.config.UserAgent == "" {
		r.config.UserAgent = "brig"
	}
	return r, nil
}

// Close closes idle connections. The Registry can still be used.
func (r *Registry) Close() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.transports {
		t.CloseIdleConnections()
	}
}

// open gets the document that ref names, verified, and the session that it came by. A refusal is in the registry's words; named is nil
// if ref is none.
func (r *Registry) open(ctx context.Context, ref string, auth brig.Auth) (reference.Named, *session, *document, error) {
	named, err := parseRef(ref)
	if err != nil {
		return nil, nil, nil, err
	}
	s, err := r.session(ctx, reference.Domain(named), reference.Path(named), auth)
	if err != nil {
		return named, nil, nil, err
	}
	top, err := s.manifest(ctx, tagOrDigest(named), -1)
	return named, s, top, err
}

// Resolve finds what ref means for the platform and returns the exact, verified bytes of its manifest and config.
// ref is repository:tag or repository@digest; a short name means what it means to docker. platform "" is the host's default.
// Kinds: Invalid (a bad reference, and every lie of the registry), NotFound, Unauthorized, Unavailable.
func (r *Registry) Resolve(ctx context.Context, ref, platform string, auth brig.Auth) (*brig.Remote, error) {
	named, s, top, err := r.open(ctx, ref, auth)
	if err != nil {
		return nil, pullError(err, named)
	}
	digest, doc := brig.DigestOf(top.bytes), top
	if top.isIndex() {
		if doc, err = s.choose(ctx, top, r.wanted(platform)); err != nil {
			return nil, pullError(err, named)
		}
	}
	m, err := parseManifest(doc)
	if err != nil {
		return nil, errs.Wrap(err, "manifest of %s", reference.FamiliarString(named))
	}
	config, err := s.config(ctx, m.Config)
	if err != nil {
		return nil, pullError(err, named)
	}
	return &brig.Remote{Ref: named.String(), Auth: auth, Digest: digest, Manifest: doc.bytes, Config: config, Layers: m.Layers}, nil
}

// Layer opens the bytes of one of remote's layers from offset on, exactly as many as its descriptor says: fewer end in
// io.ErrUnexpectedEOF, more in Invalid. The digest is the caller's to verify, and so is a retry. The caller closes it.
func (r *Registry) Layer(ctx context.Context, remote *brig.Remote, d brig.Descriptor, offset int64) (io.ReadCloser, error) {
	if offset < 0 || offset > d.Size {
		return nil, errs.New(errs.Invalid, "layer %s: offset %d of %d bytes", d.Digest, offset, d.Size)
	}
	if offset == d.Size && d.Size > 0 {
		return http.NoBody, nil
	}
	named, err := parseRef(remote.Ref)
	if err != nil {
		return nil, err
	}
	s, err := r.session(ctx, reference.Domain(named), reference.Path(named), remote.Auth)
	if err != nil {
		return nil, err
	}
	body, err := s.blob(ctx, d, offset)
	return body, pullError(err, named)
}

// Span opens the bytes of one of remote's layers from one offset to another, which is excluded, and says where what it opened ends: a
// registry that doesn't do ranges gives the whole layer if from is 0; else that is NotImplemented. In the rest it is like Layer.
func (r *Registry) Span(ctx context.Context, remote *brig.Remote, d brig.Descriptor, from, to int64) (io.ReadCloser, int64, error) {
	if from < 0 || from >= to || to > d.Size {
		return nil, 0, errs.New(errs.Invalid, "layer %s: bytes %d to %d of %d", d.Digest, from, to, d.Size)
	}
	named, err := parseRef(remote.Ref)
	if err != nil {
		return nil, 0, err
	}
	s, err := r.session(ctx, reference.Domain(named), reference.Path(named), remote.Auth)
	if err != nil {
		return nil, 0, err
	}
	body, end, err := s.span(ctx, d, from, to)
	return body, end, pullError(err, named)
}

// Tags lists a repository's tags, sorted.
func (r *Registry) Tags(ctx context.Context, repository string, auth brig.Auth) ([]string, error) {
	named, err := parseRef(repository)
	if err != nil {
		return nil, err
	}
	s, err := r.session(ctx, reference.Domain(named), reference.Path(named), auth)
	if err != nil {
		return nil, err
	}
	var tags []string
	next := s.url("tags", "list?n=1000")
	for page := 0; next != nil; page++ {
		if page == maxTagPages {
			return nil, errs.New(errs.Invalid, "tags of %s: the list does not end", repository)
		}
		var some []string
		if some, next, err = s.tagPage(ctx, next); err != nil {
			return nil, pullError(err, named)
		}
		tags = append(tags, some...)
	}
	slices.Sort(tags)
	return slices.Compact(tags), nil
}

// CheckAuth tries credentials on a registry, named as docker login does, and returns docker's word for success.
// Unauthorized: they were refused.
func (r *Registry) CheckAuth(ctx context.Context, server string, auth brig.Auth) (status string, err error) {
	host := strings.ToLower(server)
	if u, err := url.Parse(host); err == nil && u.Host != "" {
		host = u.Host
	}
	host, _, _ = strings.Cut(host, "/")
	if host == "" || host == "index.docker.io" {
		host = "docker.io"
	}
	if strings.ContainsAny(host, "@?# ") {
		return "", errs.New(errs.Invalid, "invalid registry %q", server)
	}
	s := r.newSession(host, "", auth)
	if err := s.connect(ctx); err != nil {
		return "", err
	}
	resp, err := s.get(ctx, s.url(), nil, 0)
	if err != nil {
		return "", err
	}
	resp.Body.Close()
	return "Login Succeeded", nil
}

// parseRef reads a reference as docker does; a missing tag means latest. Other digest algorithms than sha256 are refused here.
func parseRef(s string) (reference.Named, error) {
	named, err := reference.ParseNormalizedNamed(s)
	if err != nil {
		return nil, errs.New(errs.Invalid, "invalid reference format: %q: %w", s, err)
	}
	host := reference.Domain(named)
	if u, err := url.Parse("https://" + host); err != nil || u.Host != host { // the grammar knows no IPv6 address from [0000:1]
		return nil, errs.New(errs.Invalid, "invalid reference format: %q: %q is no host", s, host)
	}
	if c, ok := named.(reference.Canonical); ok {
		if _, err := brig.ParseDigest(c.Digest().String()); err != nil {
			return nil, errs.Wrap(err, "reference %q", s)
		}
	}
	return reference.TagNameOnly(named), nil
}

// tagOrDigest is what the manifest's URL ends in; a digest wins over a tag.
func tagOrDigest(n reference.Named) string {
	switch n := n.(type) {
	case reference.Canonical:
		return n.Digest().String()
	case reference.Tagged:
		return n.Tag()
	}
	return "latest"
}

// wanted lists the platforms to look for, the best first; platform "": those that the configuration names.
func (r *Registry) wanted(platform string) []brig.Platform {
	if platform == "" && len(r.config.Platforms) > 0 {
		return r.config.Platforms
	}
	return wanted(platform)
}

func wanted(platform string) []brig.Platform {
	if platform == "" {
		return brig.DefaultPlatforms(runtime.GOOS, runtime.GOARCH)
	}
	p := brig.ParsePlatform(platform)
	if p.Architecture == "" {
		p.Architecture = runtime.GOARCH
	}
	return []brig.Platform{p}
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// canceled reports whether ctx's end is why something failed.
func canceled(ctx context.Context, err error) bool {
	return ctx.Err() != nil || errors.Is(err, context.Canceled)
}
