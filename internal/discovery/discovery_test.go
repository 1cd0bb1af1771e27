package discovery

import (
	"context"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// web serves pages by host and path, over TLS with a certificate for example.com and, if plain, over http too. It notes what was asked for.
type web struct {
	pages map[string]string // "host/path" without the query; what begins with "!" is a status or a redirect
	asked []string
}

func (w *web) ServeHTTP(rw http.ResponseWriter, r *http.Request) {
	scheme := "http"
	if r.TLS != nil {
		scheme = "https"
	}
	at := r.Host + r.URL.Path
	w.asked = append(w.asked, scheme+"://"+r.Host+r.URL.RequestURI())
	page, ok := w.pages[scheme+"://"+at]
	if !ok {
		page, ok = w.pages[at]
	}
	switch {
	case !ok:
		rw.WriteHeader(http.StatusNotFound)
	case page == "!401":
		rw.WriteHeader(http.StatusUnauthorized)
	case page == "!500":
		rw.WriteHeader(http.StatusInternalServerError)
	case strings.HasPrefix(page, "!"):
		http.Redirect(rw, r, page[1:], http.StatusFound)
	default:
		if strings.HasPrefix(page, "<") {
			rw.Header().Set("Content-Type", "text/html; charset=utf-8")
		} else {
			rw.Header().Set("Content-Type", "application/octet-stream")
		}
		io.WriteString(rw, page)
	}
}

// newWeb returns a client whose every connection to port 443 or 80 comes to w. trusted: it believes the certificate.
func newWeb(t *testing.T, pages map[string]string, trusted bool) (*web, *Client) {
	t.Helper()
	w := &web{pages: pages}
	secure := httptest.NewTLSServer(w)
	plain := httptest.NewServer(w)
	t.Cleanup(secure.Close)
	t.Cleanup(plain.Close)
	c := Config{RootCAs: x509.NewCertPool(), Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
		to := plain.Listener.Addr().String()
		if strings.HasSuffix(address, ":443") {
			to = secure.Listener.Addr().String()
		}
		return (&net.Dialer{}).DialContext(ctx, network, to)
	}}
	if trusted {
		c.RootCAs.AddCert(secure.Certificate())
	}
	client := New(c)
	t.Cleanup(func() { client.Close() })
	return w, client
}

func TestParseName(t *testing.T) {
	for in, want := range map[string]*brig.ACIName{
		"example.com/app":                         {Name: "example.com/app", Labels: map[string]string{}},
		"example.com/app:1.2":                     {Name: "example.com/app", Labels: map[string]string{"version": "1.2"}},
		"example.com/app:1.2,os=linux,arch=amd64": {Name: "example.com/app", Labels: map[string]string{"version": "1.2", "os": "linux", "arch": "amd64"}},
		"example.com/app,channel=beta":            {Name: "example.com/app", Labels: map[string]string{"channel": "beta"}},
		"":                                        nil, "Example.com/x": nil, "a/b:": nil, "a/b,": nil, "a/b,os": nil, "a/b,os=": nil, "a/b:1,version=2": nil, "a//b": nil, "../x": nil, "a/b,name=c": nil, "http://x/y": nil,
	} {
		got, err := ParseName(in)
		if want == nil {
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%q: %v, %v", in, got, err)
			}
		} else if err != nil || !reflect.DeepEqual(got, *want) {
			t.Errorf("%q: %v, %v, want %v", in, got, err, *want)
		}
	}
}

const meta = `<html><head><meta name="description" content="x y">
<META NAME="ac-discovery" CONTENT="other.org https://other.org/{name}.{ext}">
<meta content="example.com/ap https://wrong/{name}.{ext}" name="ac-discovery">
<meta name="ac-discovery" content="example.com https://storage.example.com/{os}/{arch}/{name}-{version}.{ext}"/>
<meta name="ac-discovery" content="example.com https://storage.example.com/{name}-{nolabel}.{ext}">
<meta name="ac-discovery" content="example.com hdfs://storage.example.com/{name}.{ext}">
<meta name="ac-discovery" content="example.com https://no.ext/{name}">
<meta name="ac-discovery" content="example.com">
<meta name="ac-discovery-pubkeys" content="example.com https://example.com/pubkeys.gpg">
<meta name="ac-discovery-pubkeys" content="example.com http://example.com/plain.gpg"></head><body><p>`

func TestLocate(t *testing.T) {
	simple := "example.com/app-1-" + runtime.GOOS + "-" + runtime.GOARCH + ".aci"
	if runtime.GOARCH != "amd64" {
		t.Skip("appc has other words for other architectures")
	}
	storage := "https://storage.example.com/" + runtime.GOOS + "/amd64/example.com/app-1.aci"
	name := "example.com/app:1"
	for _, c := range []struct {
		name, aci string
		pages     map[string]string
		insecure  bool
		stranger  bool // the certificate isn't believed
		want      []string
		kind      errs.Kind // where want is nil
		words     string
	}{
		{name: "simple", pages: map[string]string{simple: "x", "example.com/app": meta}, want: []string{"https://" + simple}},
		{name: "simple is a page", pages: map[string]string{simple: "<html>", "example.com/app": meta}, want: []string{storage}},
		{name: "meta", pages: map[string]string{"example.com/app": meta}, want: []string{storage}},
		{name: "parent", aci: "example.com/app/x/y:1", pages: map[string]string{"example.com/app/x": "<html>no tags", "example.com/app": meta},
			want: []string{strings.Replace(storage, "app-1", "app/x/y-1", 1)}},
		{name: "host", pages: map[string]string{"example.com": meta, "example.com/": meta}, want: []string{storage}},
		{name: "redirect", pages: map[string]string{"example.com/app": "!https://example.com/elsewhere", "example.com/elsewhere": meta}, want: []string{storage}},
		{name: "labels", aci: "example.com/app:a/../b?c,os=plan9,arch=mips,nolabel=n", pages: map[string]string{"example.com/app": meta},
			want: []string{"https://storage.example.com/plan9/mips/example.com/app-a%2F..%2Fb%3Fc.aci", "https://storage.example.com/example.com/app-n.aci"}},
		{name: "nowhere", pages: nil, kind: errs.NotFound, words: "ac-discovery=1"},
		{name: "tags for others", pages: map[string]string{"example.com/app": `<meta name="ac-discovery" content="example.com/a https://x/{name}.{ext}">`}, kind: errs.NotFound, words: "no meta tag"},
		{name: "server error", pages: map[string]string{"example.com/app": "!500"}, kind: errs.Unavailable, words: "500"},
		{name: "down to http", pages: map[string]string{"https://example.com/app": "!http://example.com/app", "http://example.com/app": meta}, kind: errs.Unavailable, words: "refused to be sent from https"},
		{name: "loop", pages: map[string]string{"example.com/app": "!https://example.com/app"}, kind: errs.Unavailable, words: "10 redirects"},
		{name: "large page", pages: map[string]string{"example.com/app": meta + strings.Repeat(" ", maxPage)}, kind: errs.NotFound, words: "larger than"},
		{name: "bad certificate", pages: map[string]string{"example.com/app": meta}, stranger: true, kind: errs.Unavailable, words: "certificate"},
		{name: "bad certificate, insecure", pages: map[string]string{"example.com/app": meta}, stranger: true, insecure: true, want: []string{storage}},
		{name: "http alone, insecure", pages: map[string]string{"http://example.com/app": meta}, insecure: true, want: []string{storage}},
		{name: "http alone", pages: map[string]string{"http://example.com/app": meta}, kind: errs.NotFound, words: "404"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, client := newWeb(t, c.pages, !c.stranger)
			if c.aci == "" {
				c.aci = name
			}
			n, err := ParseName(c.aci)
			if err != nil {
				t.Fatal(err)
			}
			got, err := client.Locate(t.Context(), n, c.insecure)
			if c.want == nil {
				if !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) {
					t.Errorf("%v, %v, want kind %v with %q", got, err, c.kind, c.words)
				}
				return
			}
			var want []brig.ACIEndpoint
			for _, u := range c.want {
				want = append(want, brig.ACIEndpoint{ACI: u, Signature: u + ".asc"})
			}
			if err != nil || !reflect.DeepEqual(got, want) {
				t.Errorf("%v, %v, want %v", got, err, want)
			}
		})
	}
}

func TestKeyURLs(t *testing.T) {
	w, client := newWeb(t, map[string]string{"example.com": meta, "example.com/": meta}, true)
	got, err := client.KeyURLs(t.Context(), "example.com/app", false)
	if want := []string{"https://example.com/pubkeys.gpg"}; err != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v, %v, want %v", got, err, want)
	}
	if want := []string{"https://example.com/app?ac-discovery=1", "https://example.com/?ac-discovery=1"}; !reflect.DeepEqual(w.asked, want) {
		t.Errorf("asked %v, want %v", w.asked, want)
	}
	if got, err := client.KeyURLs(t.Context(), "example.com/app", true); err != nil || len(got) != 2 {
		t.Errorf("insecure: %v, %v", got, err)
	}
	if _, err := client.KeyURLs(t.Context(), "../x", false); !errs.Is(err, errs.Invalid) {
		t.Errorf("bad prefix: %v", err)
	}
	if _, err := client.KeyURLs(t.Context(), "example.com.evil.org/x", true); !errs.Is(err, errs.NotFound) {
		t.Errorf("nothing there: %v", err)
	}
}

func TestOpen(t *testing.T) {
	w, client := newWeb(t, map[string]string{"example.com/x": "12345", "example.com/no": "!401"}, true)
	body, size, err := client.Open(t.Context(), "https://example.com/x", false, 5)
	if err != nil || size != 5 {
		t.Fatal(size, err)
	}
	b, err := io.ReadAll(body)
	body.Close()
	if err != nil || string(b) != "12345" {
		t.Errorf("%q, %v", b, err)
	}
	n := len(w.asked)
	for _, c := range []struct {
		url      string
		insecure bool
		kind     errs.Kind
	}{
		{"https://example.com/none", false, errs.NotFound},
		{"https://example.com/no", false, errs.Unauthorized},
		{"https://example.com:1/x", false, errs.Unavailable}, // no TLS there
		{"http://example.com/x", false, errs.Forbidden},
		{"ftp://example.com/x", true, errs.Invalid},
		{"file:///etc/passwd", true, errs.Invalid},
		{"https://", true, errs.Invalid},
		{"::", true, errs.Invalid},
	} {
		if _, _, err := client.Open(t.Context(), c.url, c.insecure, 5); !errs.Is(err, c.kind) {
			t.Errorf("%s: %v, want kind %v", c.url, err, c.kind)
		}
	}
	if got := len(w.asked) - n; got != 2 {
		t.Errorf("%d requests, want 2", got)
	}
	if _, _, err := client.Open(t.Context(), "https://example.com/x", false, 4); !errs.Is(err, errs.Invalid) {
		t.Errorf("announced too large: %v", err)
	}
}

// TestOpenNeverEnds: a download that goes on for ever, or stops coming, ends with an error.
func TestOpenNeverEnds(t *testing.T) {
	stop := make(chan struct{})
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.(http.Flusher).Flush() // no length
		if r.URL.Path == "/stalls" {
			fmt.Fprint(w, "x")
			w.(http.Flusher).Flush()
			select {
			case <-stop:
			case <-r.Context().Done():
			}
			return
		}
		for {
			if _, err := w.Write(make([]byte, 4096)); err != nil {
				return
			}
		}
	}))
	t.Cleanup(srv.Close)
	t.Cleanup(func() { close(stop) })
	client := New(Config{Stall: 50 * time.Millisecond})
	t.Cleanup(func() { client.Close() })
	for path, kind := range map[string]errs.Kind{"/stalls": errs.Unavailable, "/endless": errs.Invalid} {
		body, size, err := client.Open(t.Context(), srv.URL+path, true, 100_000)
		if err != nil || size != -1 {
			t.Fatal(size, err)
		}
		_, err = io.Copy(io.Discard, body)
		body.Close()
		if !errs.Is(err, kind) {
			t.Errorf("%s: %v, want kind %v", path, err, kind)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	body, _, err := New(Config{}).Open(ctx, srv.URL+"/stalls", true, 100)
	if err != nil {
		t.Fatal(err)
	}
	cancel()
	if _, err := io.Copy(io.Discard, body); !errs.Is(err, errs.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	body.Close()
}
