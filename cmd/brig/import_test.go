package main

import (
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestImport(t *testing.T) {
	host := daemon(t, func(w http.ResponseWriter, r *http.Request) {
		b, _ := io.ReadAll(r.Body)
		switch {
		case r.Method != http.MethodPost || r.URL.Path != "/brig/v1/images/import":
			w.WriteHeader(http.StatusNotFound)
		case string(b) == "broken":
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"message":"invalid ACI"}`))
		case r.URL.Query().Get("from") == "late.org/x":
			w.Write([]byte(`{"ID":"late.org/x","Status":"Discovering"}{"Error":"it went away"}`))
		case r.URL.Query().Get("from") == "cut.org/x":
			w.Write([]byte(`{"ID":"cut.org/x","Status":"Discovering"}`))
		default:
			sig, _ := base64.StdEncoding.DecodeString(r.Header.Get("X-Brig-Signature"))
			fmt.Fprintf(w, `{"ID":"u","Status":"Downloading"}{"ID":"u","Status":"Downloading","Current":5,"Total":1000}{"ID":"u","Status":"Downloading","Current":1000,"Total":1000}
				{"Result":{"ACI":"sha512-00","Ref":"x:1","Warnings":["%s|%s|%s"],"Signers":[{"Fingerprint":"ab12","Identity":"A <a@b>"}]}}`, b, sig, r.URL.RawQuery)
		}
	})
	dir := t.TempDir()
	path := filepath.Join(dir, "x.aci")
	write := func(name, text string) string {
		p := filepath.Join(dir, name)
		if err := os.WriteFile(p, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return p
	}
	write("x.aci", "aci")
	other := write("other", "osig")
	for _, c := range []struct {
		args []string
		want string // "!": an error with that
	}{
		{[]string{path}, "warning: aci||\n"},
		{[]string{"--insecure", "--discover", path}, "warning: aci||discover=1&insecure=1\n"},
		{[]string{"--signature", other, path}, "warning: aci|osig|\n"},
		{[]string{"https://a/b.aci"}, "warning: ||from=https%3A%2F%2Fa%2Fb.aci\n"},
		{[]string{"a.org/b:1,os=linux"}, "warning: ||from=a.org%2Fb%3A1%2Cos%3Dlinux\n"},
		{[]string{"late.org/x"}, "!it went away"},
		{[]string{"cut.org/x"}, "!read brigd's answer"},
		{[]string{"--signature", other, "a.org/b"}, "!--signature is for files"},
		{[]string{"--signature", filepath.Join(dir, "none"), path}, "!no such file"},
		{[]string{"--signature", write("empty", ""), path}, "!is empty"},
		{[]string{"--signature", write("long", strings.Repeat("x", maxSignature+1)), path}, "!that is no signature"},
		{[]string{write("broken.aci", "broken")}, "!invalid ACI"},
		{[]string{path + "none"}, "!no such file"},
		{[]string{"nosuch.aci"}, "!no such file"},
	} {
		out, errOut, err := runBoth(host, append([]string{"image", "import"}, c.args...)...)
		if words, bad := strings.CutPrefix(c.want, "!"); bad {
			if err == nil || !strings.Contains(err.Error(), words) {
				t.Errorf("%v: %v, want %q", c.args, err, words)
			}
			continue
		}
		want := "u: Downloading\nu: downloaded 1kB\n" + c.want + "signed by ab12 A <a@b>\n"
		if err != nil || out != "sha512-00 x:1\n" || errOut != want {
			t.Errorf("%v: %q, %q, %v, want %q", c.args, out, errOut, err, want)
		}
	}
	write("x.aci.asc", "sig")
	if _, errOut, err := runBoth(host, "image", "import", "-q", path); err != nil || errOut != "warning: aci|sig|\nsigned by ab12 A <a@b>\n" {
		t.Errorf("a signature beside it: %q, %v", errOut, err)
	}
}

func TestConvertRefuses(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	for _, from := range []string{"ftp:x", "docker-archive:" + dir + "/none", "oci:" + dir + "/none", "docker://UPPER/:x"} {
		if _, err := run("unix:///none", "convert", from, dir+"/out.aci"); err == nil || !strings.HasPrefix(err.Error(), from) {
			t.Errorf("%s: %v", from, err)
		}
	}
	if left, _ := os.ReadDir(dir); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
