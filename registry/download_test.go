package registry

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/errs"
)

func TestDownload(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/file", func(w http.ResponseWriter, r *http.Request) {
		if r.UserAgent() != "brig/test" || r.Header.Get("Accept-Encoding") != "identity" {
			http.Error(w, "odd headers", http.StatusTeapot)
			return
		}
		io.WriteString(w, "the bytes")
	})
	mux.Handle("/moved", http.RedirectHandler("/file", http.StatusFound))
	mux.Handle("/round", http.RedirectHandler("/round", http.StatusFound))
	mux.HandleFunc("/private", func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "who are you? "+strings.Repeat("x", 2*maxReason), http.StatusForbidden)
	})
	mux.HandleFunc("/broken", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) })
	mux.HandleFunc("/huge", func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Length", "68719476737") })
	mux.HandleFunc("/short", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "100")
		io.WriteString(w, "too few")
	})
	srv := httptest.NewServer(mux)
	defer srv.Close()
	r, err := New(Config{UserAgent: "brig/test"})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	for _, c := range []struct {
		url   string
		want  string // of the bytes, if kind is -1
		kind  errs.Kind
		words string
	}{
		{srv.URL + "/file", "the bytes", -1, ""},
		{srv.URL + "/moved", "the bytes", -1, ""},
		{srv.URL + "/nosuch", "", errs.NotFound, "failed to GET " + srv.URL + "/nosuch with status 404 Not Found: 404 page not found"},
		{srv.URL + "/private", "", errs.Forbidden, "with status 403 Forbidden: who are you?"},
		{srv.URL + "/broken", "", errs.Unavailable, "with status 502 Bad Gateway"},
		{srv.URL + "/round", "", errs.Unavailable, "stopped after 10 redirects"},
		{srv.URL + "/huge", "", errs.Invalid, "brig takes no more than"},
		{"http://127.0.0.1:1/x", "", errs.Unavailable, "connection refused"},
		{"ftp://127.0.0.1/x", "", errs.Invalid, "only http and https"},
		{"file:///etc/passwd", "", errs.Invalid, "only http and https"},
		{"http:///x", "", errs.Invalid, "only http and https"},
		{"http://a b", "", errs.Invalid, "invalid character"},
	} {
		body, size, err := r.Download(t.Context(), c.url)
		if c.kind >= 0 {
			if !errs.Is(err, c.kind) || !strings.Contains(err.Error(), c.words) || len(err.Error()) > maxReason+500 {
				t.Errorf("%s: %v, want %s with %q", c.url, err, c.kind, c.words)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", c.url, err)
			continue
		}
		b, err := io.ReadAll(body)
		body.Close()
		if string(b) != c.want || err != nil || size != int64(len(c.want)) {
			t.Errorf("%s: %q, %v, size %d", c.url, b, err, size)
		}
	}
	body, _, err := r.Download(t.Context(), srv.URL+"/short")
	if err != nil {
		t.Fatal(err)
	}
	defer body.Close()
	if _, err := io.ReadAll(body); err != io.ErrUnexpectedEOF {
		t.Errorf("a broken transfer: %v", err)
	}
}

// What is endless ends, and a reader that stalls is told why.
func TestDownloadLimits(t *testing.T) {
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		for r.Context().Err() == nil {
			w.Write(make([]byte, 4096))
		}
	}))
	defer srv.Close()
	r, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	body, size, err := r.Download(t.Context(), srv.URL)
	if err != nil || size != -1 {
		t.Fatalf("size %d, %v", size, err)
	}
	defer body.Close()
	d := body.(*download)
	d.left = 10000
	if n, err := io.Copy(io.Discard, d); !errs.Is(err, errs.Invalid) || n > 10000 {
		t.Errorf("%d bytes, %v", n, err)
	}
	stalled, _, err := r.Download(t.Context(), srv.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer stalled.Close()
	stalled.(*download).cancel(errs.New(errs.Unavailable, "nothing came")) // as the timer does
	if _, err := io.Copy(io.Discard, stalled); !errs.Is(err, errs.Unavailable) {
		t.Errorf("%v", err)
	}
}
