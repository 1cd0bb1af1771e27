package integration

import (
	"encoding/json"
	"io"
	"net/http"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// manifestAt gives the manifest, and the digest that it has in the registry at addr.
func manifestAt(t *testing.T, addr, repository, tag string) (digest string, manifest map[string]any) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/v2/"+repository+"/manifests/"+tag, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header["Accept"] = []string{"application/vnd.docker.distribution.manifest.v2+json", "application/vnd.oci.image.manifest.v1+json"}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil || json.Unmarshal(b, &manifest) != nil || resp.StatusCode != 200 {
		t.Fatalf("manifest of %s:%s: %s %v %s", repository, tag, resp.Status, err, b)
	}
	return resp.Header.Get("Docker-Content-Digest"), manifest
}

func TestPush(t *testing.T) {
	own(t)
	pulled, _ := manifestAt(t, bed.reg, "layers", "latest")
	to := image(fresh("pushed/a"))
	repository := strings.TrimPrefix(to, bed.reg+"/")
	ok(t, "tag", image("layers"), to+":1")
	out := ok(t, "push", to+":1")
	match(t, "report", out, `^The push refers to repository \[`+regexp.QuoteMeta(to)+`\]\n(?s:.*)[0-9a-f]{12}: Preparing\n(?s:.*)[0-9a-f]{12}: Mounted from \S+\n(?s:.*)1: digest: `+pulled+` size: \d+$`)
	digest, _ := manifestAt(t, bed.reg, repository, "1")
	equal(t, "digest", digest, pulled)
	match(t, "again", ok(t, "push", to+":1"), `[0-9a-f]{12}: Layer already exists`)
	match(t, "digest is known", inspect(t, to+":1", "{{.RepoDigests}}"), regexp.QuoteMeta(to+"@"+pulled))
	equal(t, "quiet", ok(t, "push", "-q", to+":1"), to+":1")

	ok(t, "tag", image("busybox"), to+":2")
	match(t, "all tags", ok(t, "push", "-a", to), `(?s)1: digest: .*2: digest: `)
	fails(t, 1, "tag does not exist: "+regexp.QuoteMeta(to+":nosuch"), "push", to+":nosuch")
	fails(t, 1, "An image does not exist locally with the tag: "+regexp.QuoteMeta(image("nosuch")), "push", image("nosuch"))

	ok(t, "rmi", to+":1", to+":2")
	match(t, "pulled back", ok(t, "pull", to+":1"), "Digest: "+pulled)
	if hostDiffers["skopeo"] == "" {
		if b, err := exec.CommandContext(t.Context(), "skopeo", "inspect", "--tls-verify=false", "docker://"+to+":1").CombinedOutput(); err != nil || !strings.Contains(string(b), pulled) {
			t.Errorf("skopeo inspect: %v %s", err, b)
		}
	}
	ok(t, "rmi", to+":1")
}

// An image that came without a manifest, from an archive of plain layers, gets one, and its layers are compressed.
func TestPushLoaded(t *testing.T) {
	own(t)
	offered(t, "skopeo")
	archive := filepath.Join(t.TempDir(), "plain.tar")
	from := image("layers")
	if b, err := exec.CommandContext(t.Context(), "skopeo", "copy", "--src-tls-verify=false", "docker://"+from+":latest", "docker-archive:"+archive+":plain:1").CombinedOutput(); err != nil {
		t.Fatalf("skopeo copy: %v %s", err, b)
	}
	_, cli := daemon(t)
	done(t, cli, "load", "-i", archive)
	to := image(fresh("pushed/b"))
	repository := strings.TrimPrefix(to, bed.reg+"/")
	done(t, cli, "tag", "plain:1", to)
	match(t, "report", done(t, cli, "push", to), `(?s)[0-9a-f]{12}: Pushed.*latest: digest: sha256:`)
	first, manifest := manifestAt(t, bed.reg, repository, "latest")
	equal(t, "type", manifest["mediaType"].(string), "application/vnd.docker.distribution.manifest.v2+json")
	for _, l := range manifest["layers"].([]any) {
		equal(t, "layer", l.(map[string]any)["mediaType"].(string), "application/vnd.docker.image.rootfs.diff.tar.gzip")
	}
	match(t, "once more, the same", done(t, cli, "push", to), "Layer already exists(?s:.*)"+first)
	equal(t, "run", ok(t, "run", "--rm", "--pull", "always", "-q", to, "cat", "/data/b"), "b2")
	ok(t, "rmi", to)
}

func TestPushNeedsPassword(t *testing.T) {
	own(t)
	reg, err := startRegistry(t.Context(), fresh("private"), "me", "secret")
	if err != nil {
		t.Fatal(err)
	}
	defer reg.Close()
	to := reg.Addr + "/team/x:1"
	ok(t, "tag", image("busybox"), to)
	defer docker(t, "rmi", to)
	fails(t, 1, "no basic auth credentials", "push", to)
	cli := testbed.CLI{Host: bed.server.Host, Config: t.TempDir()}
	login := dockerOn(t, cli, strings.NewReader("secret"), "login", "-u", "me", "--password-stdin", reg.Addr)
	equal(t, "login", login.Code, 0)
	r := dockerOn(t, cli, nil, "push", to)
	equal(t, "push", r.Code, 0)
	match(t, "report", r.Out, `(?s)[0-9a-f]{12}: Pushed.*1: digest: sha256:`)
}
