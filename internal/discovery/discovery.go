// Package discovery finds App Container Images and signing keys on the web by their names (appc spec, discovery.md), and downloads them.
//
// Nothing that a server says is believed beyond where to look: sizes are capped, every wait ends, redirects never lead from https to
// http, and plain http or a bad certificate is only for who asks for it. Whether what comes is genuine is for its signature to say.
//
// appc's own package of this name has no context, no caps, and takes half a component of a name for a prefix; hence this one.
package discovery

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/brigd/brig/internal/errs"
)

// Config says how to reach servers. Its zero value is usable.
type Config struct {
	UserAgent string // "": brig
	// Dial replaces how connections are made, for tests; nil: TCP.
	Dial    func(ctx context.Context, network, address string) (net.Conn, error)
	RootCAs *x509.CertPool // authorities to believe; nil: the system's
	// Stall is how long a download may give no byte; 0: one minute.
	Stall time.Duration
}

// A Client downloads. It may be used from several goroutines.
type Client struct {
	config           Config
	secure, insecure *http.Client
}

const maxRedirects = 10

// New returns a Client.
func New(c Config) *Client {
	if c.UserAgent == "" {
		c.UserAgent = "brig"
	}
	if c.Stall == 0 {
		c.Stall = time.Minute
	}
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: 20 * time.Second}).DialContext
	}
	return &Client{config: c, secure: newHTTP(c, false), insecure: newHTTP(c, true)}
}

func newHTTP(c Config, insecure bool) *http.Client {
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: c.Dial, TLSHandshakeTimeout: 20 * time.Second, ResponseHeaderTimeout: c.Stall,
		IdleConnTimeout: 30 * time.Second, ForceAttemptHTTP2: true, DisableCompression: true, // signatures are of the bytes as they are stored
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, InsecureSkipVerify: insecure, RootCAs: c.RootCAs},
	}
	return &http.Client{Transport: t, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		switch {
		case len(via) >= maxRedirects:
			return fmt.Errorf("stopped after %d redirects", maxRedirects)
		case !insecure && req.URL.Scheme != "https":
			return fmt.Errorf("refused to be sent from https to %s", req.URL.Redacted())
		}
		return nil
	}}
}

// Close closes idle connections.
func (c *Client) Close() error {
	c.secure.CloseIdleConnections()
	c.insecure.CloseIdleConnections()
	return nil
}

// Open begins a download of at most limit bytes: more, or fewer than the server announced, is an error of the reader. size is -1 if
// the server doesn't say. Kinds: Invalid (a bad URL, too large), Forbidden (plain http without insecure), NotFound, Unauthorized,
// Unavailable. The caller closes body; it ends with ctx.
func (c *Client) Open(ctx context.Context, rawURL string, insecure bool, limit int64) (body io.ReadCloser, size int64, err error) {
	u, err := checkURL(rawURL, insecure)
	if err != nil {
		return nil, 0, err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer func() {
		if err != nil {
			cancel(nil)
		}
	}()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, u.String(), nil)
	if err != nil {
		return nil, 0, errs.As(errs.Invalid, err)
	}
	req.Header.Set("User-Agent", c.config.UserAgent)
	client := c.secure
	if insecure {
		client = c.insecure
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, 0, unreachable(ctx, err)
	}
	if err := status(resp); err != nil {
		resp.Body.Close()
		return nil, 0, err
	}
	if resp.ContentLength > limit {
		resp.Body.Close()
		return nil, 0, errs.New(errs.Invalid, "%s has %d bytes, more than %d", u.Redacted(), resp.ContentLength, limit)
	}
	return newWatched(ctx, cancel, resp, limit, c.config.Stall), resp.ContentLength, nil
}

// checkURL wants https, or http where that was allowed.
func checkURL(s string, insecure bool) (*url.URL, error) {
	u, err := url.Parse(s)
	switch {
	case err != nil:
		return nil, errs.New(errs.Invalid, "bad URL: %w", err)
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "":
		return nil, errs.New(errs.Invalid, "%q is no https:// or http:// URL", u.Redacted())
	case u.Scheme == "http" && !insecure:
		return nil, errs.New(errs.Forbidden, "%s is plain http, which anybody on the way can change: it needs --insecure", u.Redacted())
	}
	return u, nil
}

// unreachable gives a failed exchange its kind.
func unreachable(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return err
	}
	return errs.As(errs.Unavailable, err)
}

// status makes an error of an answer that is no success.
func status(resp *http.Response) error {
	kind := errs.Unavailable
	switch code := resp.StatusCode; {
	case code == http.StatusOK:
		return nil
	case code == http.StatusUnauthorized:
		kind = errs.Unauthorized
	case code >= 400 && code < 500:
		kind = errs.NotFound
	}
	return errs.New(kind, "Get %q: the server says %s", resp.Request.URL.Redacted(), resp.Status)
}

// isPage reports whether an answer is a web page, as some servers give one for every path.
func isPage(h http.Header) bool {
	t, _, err := mime.ParseMediaType(h.Get("Content-Type"))
	return err == nil && (t == "text/html" || t == "application/xhtml+xml")
}

// errStalled is why a download without progress was given up.
var errStalled = errors.New("the server sent nothing for too long")

// A watched body is capped, and given up when no byte comes for a while.
type watched struct {
	resp   *http.Response
	ctx    context.Context
	cancel context.CancelCauseFunc
	timer  *time.Timer
	stall  time.Duration
	limit  int64
	left   int64
}

func newWatched(ctx context.Context, cancel context.CancelCauseFunc, resp *http.Response, limit int64, stall time.Duration) *watched {
	return &watched{resp: resp, ctx: ctx, cancel: cancel, stall: stall, limit: limit, left: limit,
		timer: time.AfterFunc(stall, func() { cancel(errStalled) })}
}

// Read implements io.Reader.
func (w *watched) Read(p []byte) (int, error) {
	w.timer.Reset(w.stall)
	n, err := w.resp.Body.Read(p)
	w.timer.Stop()
	if w.left -= int64(n); w.left < 0 {
		return 0, errs.New(errs.Invalid, "%s is larger than %d bytes", w.resp.Request.URL.Redacted(), w.limit)
	}
	if err != nil && err != io.EOF {
		if cause := context.Cause(w.ctx); cause == errStalled {
			err = cause
		}
		err = errs.As(errs.Unavailable, fmt.Errorf("read %s: %w", w.resp.Request.URL.Redacted(), err))
		if w.ctx.Err() != nil && context.Cause(w.ctx) != errStalled {
			err = w.ctx.Err()
		}
	}
	return n, err
}

// Close implements io.Closer.
func (w *watched) Close() error {
	w.timer.Stop()
	w.cancel(nil)
	return w.resp.Body.Close()
}

// get reads a small document whole.
func (c *Client) get(ctx context.Context, u string, insecure bool, limit int64) ([]byte, error) {
	body, _, err := c.Open(ctx, u, insecure, limit)
	if err != nil {
		return nil, err
	}
	defer body.Close()
	return io.ReadAll(body)
}

// within reports whether prefix matches name: all of its components.
func within(prefix, name string) bool {
	prefix = strings.TrimSuffix(prefix, "/")
	return name == prefix || strings.HasPrefix(name, prefix+"/")
}
