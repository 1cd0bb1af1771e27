package dockerapi

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

func TestVersionsAndPaths(t *testing.T) {
	d := newDaemon(t)
	const tooOld = "is too old. Minimum supported API version is 1.24, please upgrade your client to a newer version"
	const tooNew = "is too new. Maximum supported API version is 1.51"
	for _, c := range []struct {
		method, path string
		status       int
		message      string
	}{
		{"GET", "/v1.24/version", 200, ""},
		{"GET", "/v1.51/version", 200, ""},
		{"GET", "/version", 200, ""},
		{"GET", "/v1.52/version", 400, "client version 1.52 " + tooNew},
		{"GET", "/v2.0/version", 400, "client version 2.0 " + tooNew},
		{"GET", "/v1.23/version", 400, "client version 1.23 " + tooOld},
		{"GET", "/v1.52/nosuch", 400, "client version 1.52 " + tooNew},
		{"GET", "/v1.51/nosuch", 404, "page not found"},
		{"GET", "/nosuch", 404, "page not found"},
		{"POST", "/version", 404, "page not found"},
		{"POST", "/v1.41/version", 404, "page not found"},
		{"POST", "/v1.51/session", 404, "page not found"},
		{"POST", "/grpc", 404, "page not found"},
		{"GET", "/brig/v1/images", 200, ""},
		{"GET", "/v1.51/brig/v1/images", 404, "page not found"},
	} {
		if c.message == "" {
			d.want(t, c.status, c.method, c.path, nil)
		} else if got := d.message(t, c.status, c.method, c.path, nil); got != c.message {
			t.Errorf("%s %s: %q, want %q", c.method, c.path, got, c.message)
		}
	}
}

func TestPingAndHeaders(t *testing.T) {
	d := newDaemon(t)
	for _, method := range []string{"GET", "HEAD"} {
		resp := d.do(t, method, "/_ping", nil)
		body, _ := io.ReadAll(resp.Body)
		if want := map[string]string{"GET": "OK"}[method]; string(body) != want || resp.StatusCode != 200 {
			t.Errorf("%s: %d %q, want %q", method, resp.StatusCode, body, want)
		}
		for h, want := range map[string]string{
			"Api-Version": "1.51", "Docker-Experimental": "false", "Ostype": "linux", "Server": "brig/0.1 (linux)", "Builder-Version": "1",
			"Swarm": "inactive", "Cache-Control": "no-cache, no-store, must-revalidate", "Pragma": "no-cache", "Content-Type": "text/plain; charset=utf-8",
		} {
			if got := resp.Header.Get(h); got != want {
				t.Errorf("%s: header %s is %q, want %q", method, h, got, want)
			}
		}
	}
	resp := d.do(t, "GET", "/nosuch", nil)
	if resp.Header.Get("Api-Version") != "1.51" || resp.Header.Get("Content-Type") != "application/json" {
		t.Errorf("headers of an error: %v", resp.Header)
	}
}

func TestStatusOfKinds(t *testing.T) {
	for kind, want := range map[errs.Kind]int{
		errs.Internal: 500, errs.Invalid: 400, errs.Unauthorized: 401, errs.Forbidden: 403, errs.NotFound: 404, errs.Conflict: 409,
		errs.NotModified: 304, errs.Unavailable: 503, errs.NotImplemented: 501, errs.Canceled: 500,
	} {
		w := httptest.NewRecorder()
		writeError(w, errs.Wrap(errs.New(kind, "why <so>"), "try"))
		wantBody := `{"message":"try: why <so>"}` + "\n"
		if kind == errs.NotModified {
			wantBody = ""
		}
		if w.Code != want || w.Body.String() != wantBody {
			t.Errorf("%v: %d %q", kind, w.Code, w.Body)
		}
	}
}

func TestBodies(t *testing.T) {
	big := strings.Repeat("x", maxJSON)
	for _, c := range []struct{ name, contentType, body, want string }{
		{"good", "application/json", `{"Name":"v"}`, ""},
		{"charset", "application/json; charset=utf-8", `{"Name":"v"}`, ""},
		{"no type", "", `{"Name":"v"}`, ""},
		{"unknown field", "application/json", `{"Name":"v","Later":1}`, ""},
		{"wrong type", "text/plain", `{"Name":"v"}`, "unsupported Content-Type header (text/plain): must be 'application/json'"},
		{"empty", "application/json", "", "invalid JSON: got EOF while reading request body"},
		{"broken", "application/json", `{"Name":`, "invalid JSON: unexpected end of JSON input"},
		{"two", "application/json", `{"Name":"v"}{}`, "invalid JSON: invalid character '{' after top-level value"},
		{"long", "application/json", `{"Name":"` + big + `"}`, "the request's body is larger than 4194304 bytes"},
	} {
		hr := httptest.NewRequest("POST", "/x", strings.NewReader(c.body))
		hr.Header.Set("Content-Type", c.contentType)
		var v struct{ Name string }
		err := (&request{Request: hr}).decode(&v)
		switch {
		case c.want == "" && (err != nil || v.Name != "v"):
			t.Errorf("%s: %v, %+v", c.name, err, v)
		case c.want != "" && (!errs.Is(err, errs.Invalid) || err.Error() != c.want):
			t.Errorf("%s: %v, want %q", c.name, err, c.want)
		}
	}
}

func TestQueryValues(t *testing.T) {
	hr := httptest.NewRequest("GET", "/x?a=1&b=no&c=False&d=none&e=&f=yes&n=12&bad=x", nil)
	r := &request{Request: hr, query: hr.URL.Query()}
	for name, want := range map[string]bool{"a": true, "b": false, "c": false, "d": false, "e": false, "f": true, "absent": false} {
		if r.flag(name) != want {
			t.Errorf("flag %s: %v", name, !want)
		}
	}
	if !r.flagOr("absent", true) || r.flagOr("b", true) {
		t.Error("flagOr")
	}
	if n, err := r.number("n", 0); n != 12 || err != nil {
		t.Errorf("number: %d, %v", n, err)
	}
	if n, err := r.number("e", 7); n != 7 || err != nil {
		t.Errorf("number of an empty parameter: %d, %v", n, err)
	}
	if _, err := r.number("bad", 0); !errs.Is(err, errs.Invalid) {
		t.Errorf("number of a word: %v", err)
	}
}

func TestPanicBecomes500(t *testing.T) {
	d := newDaemon(t)
	got := d.message(t, 500, "POST", "/containers/x/kill", nil) // its backend is nil
	if !strings.Contains(got, "internal error") {
		t.Errorf("message %q", got)
	}
	d.want(t, 200, "GET", "/_ping", nil)
}

func TestFailureInMidStreamBreaksTheConnection(t *testing.T) {
	d := newDaemon(t)
	d.images.images = []brig.ImageInfo{{Image: brig.Image{ID: "sha256:1"}, Tags: []string{"broken:latest", "good:latest"}}}
	if resp, err := d.client.Get("http://brig/brig/v1/images/broken/aci"); err == nil { // it may break before the headers are out
		defer resp.Body.Close()
		if b, err := io.ReadAll(resp.Body); err == nil {
			t.Errorf("a broken stream ended as if it were whole: %q", b)
		}
	}
	if got := d.want(t, 200, "GET", "/brig/v1/images/good/aci", nil); got != "aci of good" {
		t.Errorf("%q", got)
	}
	d.message(t, 404, "GET", "/brig/v1/images/nosuch/aci", nil)
	if got := d.want(t, 200, "GET", "/brig/v1/images/good/manifest", nil); got != "aci of sha256:1" {
		t.Errorf("%q", got)
	}
}

func TestShutdownEndsStreams(t *testing.T) {
	d := newDaemon(t)
	resp := d.do(t, "GET", "/events", nil)
	d.stop()
	if b, err := io.ReadAll(resp.Body); len(b) > 0 {
		t.Errorf("%q, %v", b, err)
	}
}

// A client that reads nothing can't hold up the daemon's end.
func TestShutdownWithAStuckClient(t *testing.T) {
	d := newDaemon(t)
	stuck := make(chan struct{})
	d.images.pull = func(ctx context.Context, _ brig.PullRequest, report func(brig.Progress)) error {
		for n := 0; ctx.Err() == nil; n++ { // until more than a socket buffers: then report blocks
			if n == 100 {
				close(stuck)
			}
			report(brig.Progress{Status: strings.Repeat("x", 1<<16)})
		}
		return ctx.Err()
	}
	c, err := net.Dial("unix", d.socket)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if _, err := io.WriteString(c, "POST /images/create?fromImage=x&tag=1 HTTP/1.1\r\nHost: x\r\n\r\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := io.CopyN(io.Discard, c, 100<<16); err != nil {
		t.Fatal(err)
	}
	<-stuck
	d.stop()
}

func TestNewWantsEveryBackend(t *testing.T) {
	if _, err := New(Config{}); err == nil || !strings.Contains(err.Error(), "Containers") {
		t.Errorf("%v", err)
	}
}

func TestWebPagesAreKeptOut(t *testing.T) {
	tcp := &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 2375}
	for _, c := range []struct {
		name         string
		local        net.Addr
		host, origin string
		refused      bool
	}{
		{"tcp", tcp, "127.0.0.1:2375", "", false},
		{"tcp by name", tcp, "localhost:2375", "", false},
		{"tcp IPv6", tcp, "[::1]:2375", "", false},
		{"page", tcp, "127.0.0.1:2375", "http://evil.example", true},
		{"rebound name", tcp, "evil.example:2375", "", true},
		{"unix", &net.UnixAddr{Net: "unix"}, "api.moby.localhost", "x", false},
	} {
		r := httptest.NewRequest("GET", "/version", nil)
		r.Host = c.host
		if c.origin != "" {
			r.Header.Set("Origin", c.origin)
		}
		r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, c.local))
		if err := checkAccess(r); errs.Is(err, errs.Forbidden) != c.refused {
			t.Errorf("%s: %v", c.name, err)
		}
	}
}

func TestSwarmPluginsAndWhatIsToCome(t *testing.T) {
	d := newDaemon(t)
	const notManager = `This node is not a swarm manager. Use "docker swarm init" or "docker swarm join" to connect this node to swarm and try again.`
	for _, path := range []string{"/nodes", "/services", "/v1.41/services/x", "/tasks", "/secrets", "/configs", "/swarm", "/swarm/unlockkey"} {
		if got := d.message(t, 503, "GET", path, nil); got != notManager {
			t.Errorf("%s: %q", path, got)
		}
	}
	d.message(t, 501, "POST", "/swarm/init", struct{}{})
	if got := d.want(t, 200, "GET", "/plugins", nil); got != "[]\n" {
		t.Errorf("plugins: %q", got)
	}
	if got := d.message(t, 404, "GET", "/plugins/x/y/json", nil); got != `plugin "x/y" not found` {
		t.Errorf("plugin: %q", got)
	}
	for _, c := range []struct{ method, path string }{
		{"GET", "/images/search?term=x"},
	} {
		if got := d.message(t, 501, c.method, c.path, nil); !strings.Contains(got, "brig") {
			t.Errorf("%s %s: %q", c.method, c.path, got)
		}
	}
	if got := d.want(t, 200, "POST", "/build/prune", nil); got != `{"CachesDeleted":null,"SpaceReclaimed":0}`+"\n" {
		t.Errorf("build prune of nothing: %q", got)
	}
}

// A pull ends when its client goes away, and so does every goroutine of it.
func TestClientGoesAway(t *testing.T) {
	for _, path := range []string{"/images/create?fromImage=busybox&tag=1", "/events"} {
		d := newDaemon(t)
		ended := make(chan error, 1)
		d.images.pull = func(ctx context.Context, _ brig.PullRequest, report func(brig.Progress)) error {
			report(brig.Progress{Status: "Waiting"})
			<-ctx.Done()
			ended <- ctx.Err()
			return ctx.Err()
		}
		ctx, cancel := context.WithCancel(t.Context())
		method := "POST"
		if path == "/events" {
			method = "GET"
			ended <- context.Canceled
		}
		req, err := http.NewRequestWithContext(ctx, method, "http://brig"+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := d.client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		cancel()
		resp.Body.Close()
		select {
		case err := <-ended:
			if !errors.Is(err, context.Canceled) {
				t.Errorf("%s: %v", path, err)
			}
		case <-time.After(time.Minute):
			t.Fatalf("%s goes on without a client", path)
		}
		d.stop()
	}
}

// Whatever a client sends, the hook hears a template of the table's, or "other": what it counts by is bounded.
func TestAnsweredHearsTemplates(t *testing.T) {
	var got []string
	s := newDaemon(t).server
	s.answered = func(method, route string, status int, took time.Duration) {
		got = append(got, fmt.Sprint(method, " ", route, " ", status))
		if took <= 0 {
			t.Errorf("took %v", took)
		}
	}
	for _, do := range []string{"GET /v1.41/volumes/x", "GET /volumes/y", "GET /nosuch", "BREW /_ping", "GET /v1.99/_ping", "GET /v1.41/x/y"} {
		method, path, _ := strings.Cut(do, " ")
		s.ServeHTTP(httptest.NewRecorder(), httptest.NewRequest(method, path, nil))
	}
	want := []string{"GET /volumes/{name} 404", "GET /volumes/{name} 404", "other other 404", "other other 404", "GET /_ping 400", "other other 404"}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	for _, rt := range s.routes() {
		if name := template(rt.path); strings.Contains(name, ":") || strings.Count(name, "{") != strings.Count(rt.path, "{") {
			t.Errorf("template of %s: %s", rt.path, name)
		}
	}
}
