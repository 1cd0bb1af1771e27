package registry

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/brigd/brig/internal/errs"
)

const (
	// maxDownload bounds in bytes what a URL may give.
	maxDownload = 64 << 30
	// maxReason bounds in bytes what is read of a refusal's body.
	maxReason = 4 << 10
	// connectLimit is for connecting, and again for the answer's headers.
	connectLimit = 30 * time.Second
	// stallLimit is how long no byte may come.
	stallLimit = time.Minute
)

// Download opens what an http or https URL gives: a plain file, not something of a registry. The caller closes body; size is in bytes, -1
// if the server doesn't say. Reading fails when more comes than brig takes, and when nothing comes for a minute.
// Invalid: no such URL. NotFound, Unavailable: what the server says, and that it can't be reached.
func (r *Registry) Download(ctx context.Context, address string) (body io.ReadCloser, size int64, err error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, 0, errs.As(errs.Invalid, err)
	}
	if (u.Scheme != "http" && u.Scheme != "https") || u.Host == "" {
		return nil, 0, errs.New(errs.Invalid, "can't download %s: only http and https URLs can be fetched", address)
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
	req.Header.Set("User-Agent", r.config.UserAgent)
	req.Header.Set("Accept-Encoding", "identity") // the file's own bytes
	t := &http.Transport{
		Proxy: http.ProxyFromEnvironment, DialContext: (&net.Dialer{Timeout: connectLimit}).DialContext, TLSHandshakeTimeout: connectLimit,
		ResponseHeaderTimeout: connectLimit, DisableKeepAlives: true,
	}
	resp, err := (&http.Client{Transport: t}).Do(req)
	if err != nil {
		return nil, 0, errs.As(errs.Unavailable, err)
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, 0, refusedDownload(address, resp)
	}
	if resp.ContentLength > maxDownload {
		resp.Body.Close()
		return nil, 0, errs.New(errs.Invalid, "%s has %d bytes: brig takes no more than %d", address, resp.ContentLength, int64(maxDownload))
	}
	d := &download{ctx: ctx, cancel: cancel, body: resp.Body, left: maxDownload}
	d.timer = time.AfterFunc(stallLimit, func() {
		cancel(errs.New(errs.Unavailable, "download %s: nothing came for %s", address, stallLimit))
	})
	return d, resp.ContentLength, nil
}

// refusedDownload is the error of an answer that is none.
func refusedDownload(address string, resp *http.Response) error {
	kind := errs.Unavailable
	switch resp.StatusCode {
	case http.StatusNotFound, http.StatusGone:
		kind = errs.NotFound
	case http.StatusUnauthorized, http.StatusForbidden:
		kind = errs.Forbidden
	}
	why, _ := io.ReadAll(io.LimitReader(resp.Body, maxReason)) // what can't be read is left out
	text := strings.TrimSpace(string(why))
	if text != "" {
		text = ": " + text
	}
	return errs.New(kind, "failed to GET %s with status %s%s", address, resp.Status, text)
}

// A download is a body that may neither stall nor be endless.
type download struct {
	ctx    context.Context
	cancel context.CancelCauseFunc
	body   io.ReadCloser
	timer  *time.Timer
	left   int64 // bytes
}

// Read implements io.Reader.
func (d *download) Read(p []byte) (int, error) {
	d.timer.Reset(stallLimit)
	n, err := d.body.Read(p)
	if d.left -= int64(n); d.left < 0 {
		return 0, errs.New(errs.Invalid, "the download is larger than the %d bytes that brig takes", int64(maxDownload))
	}
	if err != nil && err != io.EOF && d.ctx.Err() != nil {
		err = context.Cause(d.ctx)
	}
	return n, err
}

// Close implements io.Closer.
func (d *download) Close() error {
	d.timer.Stop()
	d.cancel(nil)
	return d.body.Close()
}
