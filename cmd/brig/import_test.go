package main

import (
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
		if r.Method != http.MethodPost || r.URL.Path != "/brig/v1/images/import" || string(b) != "aci" {
			w.WriteHeader(http.StatusBadRequest)
			w.Write([]byte(`{"message":"invalid ACI"}`))
			return
		}
		w.WriteHeader(http.StatusCreated)
		w.Write([]byte(`{"ACI":"sha512-00","Ref":"x:1","Warnings":[]}`))
	})
	path := filepath.Join(t.TempDir(), "x.aci")
	if err := os.WriteFile(path, []byte("aci"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := run(host, "image", "import", path); err != nil || out != "sha512-00 x:1\n" {
		t.Errorf("%q, %v", out, err)
	}
	os.WriteFile(path, []byte("other"), 0o600)
	if _, err := run(host, "image", "import", path); err == nil || !strings.HasSuffix(err.Error(), "invalid ACI") {
		t.Errorf("a refusal: %v", err)
	}
	if _, err := run(host, "image", "import", path+"none"); err == nil {
		t.Error("a missing file is no error")
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
