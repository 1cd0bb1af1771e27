package buildcontext

import (
	"archive/tar"
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// inflate reads gzip and what isn't compressed.
func inflate(_ context.Context, r io.Reader, _ string) (io.ReadCloser, error) {
	b := bufio.NewReader(r)
	if head, _ := b.Peek(2); bytes.Equal(head, []byte{0x1f, 0x8b}) {
		return gzip.NewReader(b)
	}
	return io.NopCloser(b), nil
}

func get(ctx context.Context, address string) (io.ReadCloser, int64, error) {
	resp, err := http.Get(address)
	if err != nil {
		return nil, 0, errs.As(errs.Unavailable, err)
	}
	if resp.StatusCode != 200 {
		resp.Body.Close()
		return nil, 0, errs.New(errs.NotFound, "failed to GET %s with status %s", address, resp.Status)
	}
	return resp.Body, resp.ContentLength, nil
}

func open(t *testing.T, dir string) *Contexts {
	t.Helper()
	c, err := Open(Config{Dir: dir, Decompress: inflate, Download: get, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// pack makes an archive of names and texts, one after the other.
func pack(t *testing.T, files ...string) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for n := 0; n < len(files); n += 2 {
		if err := w.WriteHeader(&tar.Header{Name: files[n], Mode: 0o4751, Uid: 7, Gid: 8, Size: int64(len(files[n+1]))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(w, files[n+1])
	}
	w.Close()
	return b.Bytes()
}

func zip(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	z.Write(b)
	z.Close()
	return out.Bytes()
}

// Small contexts are made in memory, others and those that memory has no room for on the disk, and nothing is left of either.
func TestMemory(t *testing.T) {
	top := t.TempDir()
	memory, disk := filepath.Join(top, "memory"), filepath.Join(top, "disk")
	if err := os.MkdirAll(filepath.Join(memory, "left by another"), 0o755); err != nil {
		t.Fatal(err)
	}
	c, err := Open(Config{Dir: disk, Memory: memory, Decompress: inflate, Download: get, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	attr := pack(t, "f", "1")
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Name: "f", Mode: 0o600, PAXRecords: map[string]string{"SCHILY.xattr.user.a": "b"}, Format: tar.FormatPAX}); err != nil {
		t.Fatal(err)
	}
	w.Close()
	for name, x := range map[string]struct {
		archive []byte
		in      string
	}{
		"small": {attr, memory}, "compressed": {zip(attr), memory}, "just too large": {pack(t, "f", strings.Repeat("x", maxSmall-1536)), disk},
		"as large as may be": {pack(t, "f", strings.Repeat("x", maxSmall-2048))[:maxSmall-1], memory}, "user's attributes": {b.Bytes(), disk},
	} {
		dir, remove, err := c.Receive(t.Context(), bytes.NewReader(x.archive))
		if err != nil || filepath.Dir(dir) != x.in {
			t.Errorf("%s: %s, %v", name, dir, err)
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, "f")); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		remove()
	}
	if _, _, err := c.Receive(t.Context(), strings.NewReader("no archive, but longer than one block of it: "+strings.Repeat("x", 600))); !errs.Is(err, errs.Invalid) {
		t.Errorf("no archive: %v", err)
	}
	if err := os.Chmod(memory, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(memory); !os.IsNotExist(err) {
		t.Errorf("left in memory: %v", err)
	}
	if left, err := os.ReadDir(disk); err != nil || len(left) > 0 {
		t.Errorf("left on the disk: %v, %v", left, err)
	}
}

func TestReceive(t *testing.T) {
	dir := t.TempDir()
	c := open(t, filepath.Join(dir, "x"))
	archive := pack(t, "./Dockerfile", "FROM x\n", "d/.wh.f", "1")
	for name, body := range map[string][]byte{"plain": archive, "gzip": zip(archive), "tail": append(bytes.Clone(archive), make([]byte, 100<<10)...)} {
		r := bytes.NewReader(body)
		got, remove, err := c.Receive(context.Background(), r)
		if err != nil || r.Len() != 0 {
			t.Errorf("%s: %v, %d bytes unread", name, err, r.Len())
			continue
		}
		if b, err := os.ReadFile(filepath.Join(got, "Dockerfile")); err != nil || string(b) != "FROM x\n" {
			t.Errorf("%s: %q, %v", name, b, err)
		}
		st, err := os.Stat(filepath.Join(got, "d", ".wh.f"))
		if err != nil || st.Mode() != 0o751|os.ModeSetuid {
			t.Errorf("%s: %v, %v", name, st, err)
		}
		if st, err := os.Stat(got); err != nil || st.Mode().Perm() != 0o755 {
			t.Errorf("%s: %v, %v", name, st, err)
		}
		remove()
		remove()
	}
	if _, _, err := c.Receive(context.Background(), strings.NewReader("")); err != nil {
		t.Errorf("an empty body is an empty context: %v", err)
	}
	c.Close()
}

func TestReceiveRefuses(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	for name, body := range map[string][]byte{
		"garbage": []byte(strings.Repeat("not a tar\n", 200)), "cut": pack(t, "f", strings.Repeat("x", 4096))[:2000], "climbs": pack(t, "../x", "y"),
	} {
		if _, _, err := c.Receive(context.Background(), bytes.NewReader(body)); !errs.Is(err, errs.Invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
	gone := errors.New("gone")
	if _, _, err := c.Receive(context.Background(), io.MultiReader(bytes.NewReader(pack(t, "f", "x")[:700]), failing{gone})); !errors.Is(err, gone) {
		t.Errorf("a client that goes: %v", err)
	}
	c.Close()
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestOpenSweeps(t *testing.T) {
	dir := t.TempDir()
	c := open(t, dir)
	if _, _, err := c.Receive(context.Background(), bytes.NewReader(pack(t, "f", "x"))); err != nil {
		t.Fatal(err)
	}
	open(t, dir)
	if left, err := os.ReadDir(dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestFetch(t *testing.T) {
	bodies := map[string][]byte{
		"/tar": pack(t, "D", "FROM x"), "/tgz": zip(pack(t, "D", "FROM x")), "/Dockerfile": []byte("FROM y\n"), "/zipped": zip([]byte("FROM y\n")), "/empty": {},
		"/binary": bytes.Repeat([]byte{0, 1, 2, 3}, 300), "/long": bytes.Repeat([]byte("# comment\n"), 100),
	}
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, ok := bodies[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		w.Write(b)
	}))
	defer srv.Close()
	c := open(t, t.TempDir())
	for path, want := range map[string][2]string{
		"/tar": {"D", ""}, "/tgz": {"D", ""}, "/Dockerfile": {"Dockerfile", "Dockerfile"}, "/zipped": {"Dockerfile", "Dockerfile"}, "/empty": {"Dockerfile", "Dockerfile"},
		"/long": {"Dockerfile", "Dockerfile"},
	} {
		var told brig.Progress
		dir, dockerfile, remove, err := c.Fetch(context.Background(), srv.URL+path, func(p brig.Progress) { told = p })
		if err != nil || dockerfile != want[1] {
			t.Errorf("%s: %q, %v", path, dockerfile, err)
			continue
		}
		if _, err := os.Stat(filepath.Join(dir, want[0])); err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if n := int64(len(bodies[path])); n > 0 && told != (brig.Progress{ID: "Downloading context", Status: srv.URL + path, Current: n, Total: n}) {
			t.Errorf("%s: %+v", path, told)
		}
		remove()
	}
	for remote, kind := range map[string]errs.Kind{
		srv.URL + "/binary": errs.Invalid, srv.URL + "/nosuch": errs.NotFound, "git://": errs.Invalid, "https://x/y.git#-z": errs.Invalid,
	} {
		if _, _, _, err := c.Fetch(context.Background(), remote, func(brig.Progress) {}); !errs.Is(err, kind) {
			t.Errorf("%s: %v", remote, err)
		}
	}
	c.Close()
	if left, err := os.ReadDir(c.c.Dir); err != nil || len(left) > 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}
