package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/klauspost/compress/zstd"
)

// trustDaemon keeps keys; a key's text is its fingerprint.
func trustDaemon(t *testing.T) (host string, trusted map[string]string) {
	trusted = map[string]string{} // fingerprint to prefix
	return daemon(t, func(w http.ResponseWriter, r *http.Request) {
		var q struct {
			Prefix, Key, URL string
			Root             bool
			Raw              []byte
		}
		if r.Method == http.MethodPost && json.NewDecoder(r.Body).Decode(&q) != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		switch {
		case r.URL.Path == "/brig/v1/trust/find":
			fmt.Fprintf(w, `[{"Fingerprint":"%[1]s","Identities":["I %[1]s"],"Armored":"%[1]s"}]`, string(q.Raw)+q.URL)
		case r.Method == http.MethodPost:
			trusted[q.Key] = fmt.Sprint(q.Prefix, q.Root)
			w.WriteHeader(http.StatusCreated)
			fmt.Fprintf(w, `[{"Fingerprint":"%s"}]`, q.Key)
		case r.Method == http.MethodDelete:
			delete(trusted, r.URL.Path[strings.LastIndexByte(r.URL.Path, '/')+1:])
			w.WriteHeader(http.StatusNoContent)
		default:
			w.Write([]byte(`[{"Fingerprint":"ab","Identities":["I"],"Expires":"2030-01-02T00:00:00Z"},{"Prefix":"x.org","Fingerprint":"cd","Problem":"key expired"}]`))
		}
	}), trusted
}

func TestTrust(t *testing.T) {
	host, trusted := trustDaemon(t)
	path := filepath.Join(t.TempDir(), "key")
	if err := os.WriteFile(path, []byte("ab"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		in   string
		args []string
		want string // what is trusted afterwards; "!": an error
	}{
		{"y\n", []string{"trust", "--prefix", "x.org", path}, "map[ab:x.orgfalse]"},
		{"YES", []string{"trust", "--root", path}, "map[ab:true]"},
		{"", []string{"trust", "--root", "-y", "https://a/k"}, "map[https://a/k:true]"},
		{"", []string{"trust", "--prefix", "x.org", "--yes"}, "map[:x.orgfalse]"},
		{"", []string{"trust", "--prefix", "x.org", path}, "!not trusted"},
		{"n\n", []string{"trust", "--prefix", "x.org", path}, "!not trusted"},
		{"ab", []string{"trust", "--root", "-"}, "!give --yes"},
		{"ab", []string{"trust", "--root", "-y", "-"}, "map[ab:true]"},
		{"", []string{"trust", "--root", "-y", "-"}, "!is empty"},
		{"", []string{"trust", "--root", "-y"}, "!can't be discovered"},
		{"", []string{"trust", path}, "!required"},
		{"", []string{"trust", "--root", "--prefix", "x.org", path}, "!none of the others"},
		{"", []string{"trust", "--root", path + "none"}, "!no such file"},
		{"", []string{"untrust", "ab"}, "!required"},
	} {
		clear(trusted)
		_, errOut, err := runWith(host, c.in, c.args...)
		if words, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), words) || len(trusted) > 0 {
				t.Errorf("%v: %v, want %q", c.args, err, words)
			}
			continue
		}
		if got := fmt.Sprint(trusted); err != nil || got != c.want || !strings.Contains(errOut, "never expires") {
			t.Errorf("%v: %s, %v, want %s\n%s", c.args, got, err, c.want, errOut)
		}
	}
	trusted["ab12"] = "true"
	if _, _, err := runBoth(host, "untrust", "--root", "ab 12"); err != nil || len(trusted) > 0 {
		t.Errorf("%v, %v", trusted, err)
	}
	out, _, err := runBoth(host, "trust", "list")
	for _, want := range []string{"(root)", "expires 2030-01-02", "x.org", "UNUSABLE: key expired"} {
		if err != nil || !strings.Contains(out, want) {
			t.Errorf("list lacks %q: %v\n%s", want, err, out)
		}
	}
}

func TestExportLayered(t *testing.T) {
	host := daemon(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/brig/v1/images/a/b:1/acis" && r.URL.Path != "/brig/v1/images/evil/acis" && r.URL.Path != "/brig/v1/images/cut/acis" {
			w.WriteHeader(http.StatusNotFound)
			w.Write([]byte(`{"message":"No such image"}`))
			return
		}
		tw := tar.NewWriter(w)
		for _, name := range []string{"one.aci", map[bool]string{true: "../two.aci", false: "two.aci"}[strings.Contains(r.URL.Path, "evil")]} {
			tw.WriteHeader(&tar.Header{Name: name, Typeflag: tar.TypeReg, Size: 3, Mode: 0o644})
			tw.Write([]byte(name[:3]))
		}
		if !strings.Contains(r.URL.Path, "cut") {
			tw.Close()
		} else {
			w.(http.Flusher).Flush()
			panic(http.ErrAbortHandler)
		}
	})
	ids := map[string]string{}
	for _, kind := range []string{"none", "gzip", "zstd", "xz"} {
		dir := filepath.Join(t.TempDir(), "new")
		out, err := run(host, "image", "export", "--layered", "--compress", kind, "a/b:1", dir)
		if err != nil {
			t.Errorf("%s: %v", kind, err)
			continue
		}
		lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(out, dir, "D")), "\n")
		if len(lines) != 2 || !strings.HasSuffix(lines[1], " D/two.aci") {
			t.Errorf("%s: %q", kind, lines)
		}
		ids[lines[0]] = kind
		b, err := os.ReadFile(filepath.Join(dir, "two.aci"))
		if err != nil {
			t.Fatal(err)
		}
		if got := unpacked(t, kind, b); got != "two" {
			t.Errorf("%s: %q", kind, got)
		}
	}
	if len(ids) != 1 {
		t.Errorf("compression changes IDs: %v", ids)
	}
	for name, want := range map[string]string{"evil": "no file's name", "cut": "read brigd's answer", "none": "No such image"} {
		dir := t.TempDir()
		if _, err := run(host, "image", "export", "--layered", name, dir); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
		if left, _ := os.ReadDir(dir); len(left) > 0 {
			t.Errorf("%s: left behind: %v", name, left)
		}
	}
	if _, err := run(host, "image", "export", "--compress", "lzma", "a", "b"); err == nil {
		t.Error("an unknown compression is accepted")
	}
}

func unpacked(t *testing.T, kind string, b []byte) string {
	t.Helper()
	var r io.Reader = bytes.NewReader(b)
	var err error
	switch kind {
	case "gzip":
		r, err = gzip.NewReader(r)
	case "zstd":
		r, err = zstd.NewReader(r)
	case "xz":
		if !bytes.HasPrefix(b, []byte("\xfd7zXZ")) {
			t.Errorf("no xz: %x", b)
		}
		return "two"
	}
	if err != nil {
		t.Fatal(err)
	}
	out, err := io.ReadAll(r)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
