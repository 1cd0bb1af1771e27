package main

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// daemon serves h on a socket and returns its host string.
func daemon(t *testing.T, h http.HandlerFunc) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: h}
	go srv.Serve(l)
	t.Cleanup(func() { srv.Close() })
	return "unix://" + path
}

func run(host string, args ...string) (string, error) {
	out, _, err := runBoth(host, args...)
	return out, err
}

// runBoth returns both streams; standard input is empty.
func runBoth(host string, args ...string) (out, errOut string, err error) {
	return runWith(host, "", args...)
}

func runWith(host, in string, args ...string) (out, errOut string, err error) {
	var o, e bytes.Buffer
	cmd := command()
	cmd.SetArgs(append([]string{"--host", host}, args...))
	cmd.SetIn(strings.NewReader(in))
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	err = cmd.Execute()
	return o.String(), e.String(), err
}

func TestImageCommands(t *testing.T) {
	host := daemon(t, func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/brig/v1/images":
			w.Write([]byte(`[{"ID":"sha256:0123456789abcdef","Tags":["a/b:1"],"Platform":"linux/amd64","Size":1000,"ACI":{"Name":"x/a/b","ID":"sha512-00"}},
				{"ID":"sha256:fedcba9876543210","Tags":[],"ACI":{"Name":"y"}}]`))
		case "/brig/v1/images/a/b:1/aci":
			w.Write([]byte("tar"))
		case "/brig/v1/images/broken/aci":
			w.Header().Set("Content-Length", "100")
			w.Write([]byte("tar"))
		default:
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte(`{"message":"No such image: ` + strings.Split(r.URL.Path, "/")[4] + `"}`))
		}
	})
	out, err := run(host, "image", "ls")
	for _, want := range []string{"a/b:1", "x/a/b", "sha512-00", "1kB", "fedcba987654", "(computing)"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("ls lacks %q: %v\n%s", want, err, out)
		}
	}
	dir := t.TempDir()
	out, err = run(host, "image", "export", "a/b:1", filepath.Join(dir, "x.aci"))
	if want := fmt.Sprintf("sha512-%x\n", sha512.Sum512([]byte("tar"))); err != nil || out != want {
		t.Errorf("export says %q, %v; want the ACI's ID %q", out, err, want)
	}
	if b, _ := os.ReadFile(filepath.Join(dir, "x.aci")); string(b) != "tar" {
		t.Errorf("exported %q", b)
	}
	if out, err := run(host, "image", "export", "a/b:1", "-"); err != nil || out != "tar" {
		t.Errorf("to standard output: %q, %v", out, err)
	}
	if _, err := run(host, "image", "export", "broken", filepath.Join(dir, "y.aci")); err == nil {
		t.Error("a broken stream is no error")
	}
	if _, err := run(host, "image", "manifest", "none"); err == nil || err.Error() != "No such image: none" {
		t.Errorf("server's message: %v", err)
	}
	if left, _ := os.ReadDir(dir); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
	for _, bad := range []string{"/x", "ftp://x", "unix://"} {
		if _, err := run(bad, "image", "ls"); err == nil {
			t.Errorf("host %q is accepted", bad)
		}
	}
}
