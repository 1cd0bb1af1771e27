package integration

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

// fault changes the answer to a GET of a blob or a manifest. It gets the honest body.
type fault func(w http.ResponseWriter, r *http.Request, body []byte)

// lyingRegistry holds an image "unique", whose layer no server has, and answers GETs whose path matches with the fault.
func lyingRegistry(t *testing.T, path string, f fault) string {
	t.Helper()
	unique, err := images.Unique()
	if err != nil {
		t.Fatal(err)
	}
	honest := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	re := regexp.MustCompile(path)
	var lie atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !lie.Load() || r.Method != http.MethodGet || !re.MatchString(r.URL.Path) {
			honest.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		honest.ServeHTTP(rec, r)
		for k, v := range rec.Header() {
			w.Header()[k] = v
		}
		f(w, r, rec.Body.Bytes())
	}))
	t.Cleanup(s.Close)
	addr := strings.TrimPrefix(s.URL, "http://")
	if err := (images.Set{"unique:latest": unique}).Push(bed.ctx, addr, nil); err != nil {
		t.Fatal(err)
	}
	lie.Store(true)
	return addr
}

// stored is how many files the server's root holds: a failed pull adds none.
func stored(t *testing.T) int {
	t.Helper()
	n := 0
	for _, sub := range []string{"blobs", "store", "spool"} {
		filepath.WalkDir(filepath.Join(bed.server.Root, sub), func(_ string, d os.DirEntry, err error) error {
			if err == nil && !d.IsDir() {
				n++
			}
			return nil
		})
	}
	return n
}

func TestLyingRegistry(t *testing.T) {
	const blobs, manifests = `/blobs/sha256:`, `/manifests/`
	flip := func(w http.ResponseWriter, _ *http.Request, b []byte) {
		b = bytes.Clone(b)
		b[len(b)/2] ^= 0x40
		w.Write(b)
	}
	for _, c := range []struct {
		name, path string
		f          fault
		words      string
	}{
		{"changed blob", blobs, flip, `(?i)(verif|digest|mismatch|checksum|filesystem layer)`},
		{"truncated blob", blobs, func(w http.ResponseWriter, _ *http.Request, b []byte) {
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.Write(b[:len(b)/2])
			panic(http.ErrAbortHandler)
		}, `(?i)(EOF|short|truncated|verif|digest|retr)`},
		{"short blob", blobs, func(w http.ResponseWriter, _ *http.Request, b []byte) {
			b = b[:len(b)/2]
			w.Header().Set("Content-Length", fmt.Sprint(len(b)))
			w.Write(b)
		}, `(?i)(EOF|size|short|verif|digest|mismatch|expected|announced|filesystem layer)`},
		{"missing blob", blobs, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Del("Content-Length")
			http.Error(w, `{"errors":[{"code":"BLOB_UNKNOWN","message":"blob unknown to registry"}]}`, 404)
		}, `(?i)(not found|unknown)`},
		{"manifest that is no JSON", manifests, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Del("Content-Length")
			w.Header().Del("Docker-Content-Digest")
			io.WriteString(w, "this is no manifest")
		}, `(?i)(invalid|unmarshal|parse|manifest|json|verif)`},
		{"server error", manifests, func(w http.ResponseWriter, _ *http.Request, _ []byte) {
			w.Header().Del("Content-Length")
			http.Error(w, "broken", 500)
		}, `(?i)(500|internal server error|unexpected|broken|received)`},
	} {
		t.Run(c.name, func(t *testing.T) {
			addr := lyingRegistry(t, c.path, c.f)
			before := stored(t)
			fails(t, 1, c.words, "pull", addr+"/unique")
			fails(t, 1, "(?i)no such image", "image", "inspect", addr+"/unique")
			if bed.server.Owned {
				eventually(t, "nothing stored", func() (bool, string) {
					now := stored(t)
					return now == before, fmt.Sprint(now, " files, before ", before)
				})
			}
		})
	}
	fails(t, 1, "(?i)connection refused", "pull", "127.0.0.1:1/x")
}

// Ctrl-C ends the client; the server drops the download too.
func TestPullInterrupted(t *testing.T) {
	gone := make(chan struct{})
	asked := make(chan struct{}, 100)
	addr := lyingRegistry(t, "/blobs/sha256:", func(w http.ResponseWriter, r *http.Request, b []byte) {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		w.Write(b[:len(b)/2])
		w.(http.Flusher).Flush()
		asked <- struct{}{}
		select {
		case <-r.Context().Done():
			asked <- struct{}{}
		case <-gone:
		}
	})
	defer close(gone)
	before := stored(t)
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	cmd := bed.cli.Command(ctx, "pull", addr+"/unique")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	select {
	case <-asked:
	case <-ctx.Done():
		t.Error("the server never asked for the layer")
	}
	cmd.Process.Signal(os.Interrupt)
	err := cmd.Wait()
	if exit, is := err.(*exec.ExitError); !is || exit.ExitCode() == 0 {
		t.Errorf("interrupted pull: %v, want a failure", err)
	}
	select {
	case <-asked:
	case <-ctx.Done():
		t.Error("the server still downloads")
	}
	fails(t, 1, "(?i)no such image", "image", "inspect", addr+"/unique")
	if bed.server.Owned {
		eventually(t, "nothing stored", func() (bool, string) {
			now := stored(t)
			return now == before, fmt.Sprint(now, " files, before ", before)
		})
	}
}

func TestLogin(t *testing.T) {
	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	reg, err := startRegistry(ctx, "private", "user", "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	set, err := images.Build()
	if err != nil {
		t.Fatal(err)
	}
	if err := (images.Set{"entry:latest": set["entry:latest"]}).Push(ctx, reg.Addr, &authn.Basic{Username: "user", Password: "secret"}); err != nil {
		t.Fatal(err)
	}
	loginAndPull(t, reg.Addr)
}

// A registry that sends its clients to a token server: the distribution spec's Bearer scheme.
func TestLoginWithToken(t *testing.T) {
	set, err := images.Build()
	if err != nil {
		t.Fatal(err)
	}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	var s *httptest.Server
	var guarded atomic.Bool
	s = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		user, password, basic := r.BasicAuth()
		switch {
		case r.URL.Path == "/token" && basic && (user != "user" || password != "secret"):
			w.WriteHeader(http.StatusUnauthorized)
		case r.URL.Path == "/token" && basic:
			fmt.Fprintf(w, `{"token":"good-%s","expires_in":300}`, user)
		case r.URL.Path == "/token":
			io.WriteString(w, `{"token":"anonymous"}`)
		case guarded.Load() && r.Header.Get("Authorization") != "Bearer good-user":
			w.Header().Set("Www-Authenticate", fmt.Sprintf(`Bearer realm="%s/token",service="test",scope="repository:entry:pull"`, s.URL))
			w.WriteHeader(http.StatusUnauthorized)
			io.WriteString(w, `{"errors":[{"code":"UNAUTHORIZED","message":"authentication required"}]}`)
		default:
			inner.ServeHTTP(w, r)
		}
	}))
	defer s.Close()
	addr := strings.TrimPrefix(s.URL, "http://")
	if err := (images.Set{"entry:latest": set["entry:latest"]}).Push(bed.ctx, addr, nil); err != nil {
		t.Fatal(err)
	}
	guarded.Store(true)
	loginAndPull(t, addr)
}

func loginAndPull(t *testing.T, addr string) {
	t.Helper()
	private := testbed.CLI{Host: bed.cli.Host, Config: t.TempDir()}
	const denied = "(?i)(no basic auth credentials|unauthorized|authentication required|access denied)"
	ref := addr + "/entry"
	r := dockerOn(t, private, nil, "pull", ref)
	equal(t, "pull without login", r.Code, 1)
	match(t, "its words", r.Err, denied)
	r = dockerOn(t, private, strings.NewReader("wrong"), "login", "-u", "user", "--password-stdin", addr)
	equal(t, "login with a wrong password", r.Code, 1)
	match(t, "its words", r.Err, denied)
	r = dockerOn(t, private, strings.NewReader("secret"), "login", "-u", "user", "--password-stdin", addr)
	match(t, "login", r.Out, "Login Succeeded")
	r = dockerOn(t, private, nil, "pull", "-q", ref)
	equal(t, "pull", r.Out, ref+":latest\n")
	equal(t, "its exit code", r.Code, 0)
	ok(t, "rmi", ref)
	equal(t, "logout", dockerOn(t, private, nil, "logout", addr).Code, 0)
	equal(t, "pull after logout", dockerOn(t, private, nil, "pull", ref).Code, 1)
}

// The bars that a terminal shows while layers arrive.
func TestPullProgress(t *testing.T) {
	addr := lyingRegistry(t, "/blobs/sha256:", func(w http.ResponseWriter, _ *http.Request, b []byte) {
		w.Header().Set("Content-Length", fmt.Sprint(len(b)))
		for half := range 2 {
			w.Write(b[half*len(b)/2 : (half+1)*len(b)/2])
			w.(http.Flusher).Flush()
			time.Sleep(300 * time.Millisecond)
		}
	})
	term := openTerminal(t, "pull", addr+"/unique")
	term.resize(30, 150) // docker draws bars from 110 columns on
	term.sees(`latest: Pulling from unique`)
	term.sees(`Downloading +\[=+>? *\] +\S+B/\S+B`)
	term.sees(`[0-9a-f]{12}: .*Pull complete`)
	term.sees(`Status: Downloaded newer image for ` + regexp.QuoteMeta(addr) + `/unique:latest`)
	term.ends(0)
	ok(t, "rmi", addr+"/unique")
}
