package registry

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	ggcr "github.com/google/go-containerregistry/pkg/registry"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// htpasswd lets sailor in with the password "ahoy".
const htpasswd = "sailor:$2b$05$abcdefghijklmnopqrstuupc2Bh/BcdpJnf0yyNxNgehaXaZ8mK5m\n"

func newRegistry(t *testing.T, c Config) *Registry {
	t.Helper()
	r, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	r.wait = func(ctx context.Context, _ time.Duration) error { return ctx.Err() }
	t.Cleanup(r.Close)
	return r
}

// serve starts ggcr's in-process registry behind wrap (nil: nothing) and returns its host:port.
func serve(t *testing.T, wrap func(http.Handler) http.Handler) string {
	t.Helper()
	h := ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0)))
	if wrap != nil {
		h = wrap(h)
	}
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// debian starts Debian's docker-registry on a loopback port and returns host:port.
func debian(t *testing.T, auth bool) string {
	t.Helper()
	dir := t.TempDir()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	config := fmt.Sprintf("version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\nstorage: {filesystem: {rootdirectory: %q}}\nhttp: {addr: %q}\n", dir+"/data", addr)
	if auth {
		config += fmt.Sprintf("auth: {htpasswd: {realm: brig, path: %q}}\n", dir+"/htpasswd")
	}
	for name, s := range map[string]string{"config.yml": config, "htpasswd": htpasswd} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("docker-registry", "serve", dir+"/config.yml")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatalf("start docker-registry (make deps installs it): %v", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() { cmd.Process.Kill(); <-ended })
	for {
		resp, err := http.Get("http://" + addr + "/v2/")
		if err == nil {
			resp.Body.Close()
			return addr
		}
		select {
		case err := <-ended:
			ended <- err
			t.Fatalf("docker-registry ended: %v\n%s", err, out.String())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// A pusher puts blobs and manifests into a registry.
type pusher struct {
	t          *testing.T
	host, repo string
	user       bool // authenticate as sailor
}

func (p pusher) do(method, url, contentType string, body []byte) *http.Response {
	p.t.Helper()
	req, err := http.NewRequest(method, url, bytes.NewReader(body))
	if err != nil {
		p.t.Fatal(err)
	}
	req.Header.Set("Content-Type", contentType)
	if p.user {
		req.SetBasicAuth("sailor", "ahoy")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		p.t.Fatal(err)
	}
	b, _ := io.ReadAll(resp.Body)
	resp.Body.Close()
	if resp.StatusCode >= 300 {
		p.t.Fatalf("%s %s: %s\n%s", method, url, resp.Status, b)
	}
	return resp
}

func (p pusher) blob(b []byte) rawDescriptor {
	p.t.Helper()
	base := "http://" + p.host + "/v2/" + p.repo + "/blobs/uploads/"
	resp := p.do("POST", base, "", nil)
	loc, err := resp.Request.URL.Parse(resp.Header.Get("Location"))
	if err != nil {
		p.t.Fatal(err)
	}
	q := loc.Query()
	q.Set("digest", string(brig.DigestOf(b)))
	loc.RawQuery = q.Encode()
	p.do("PUT", loc.String(), "application/octet-stream", b)
	return rawDescriptor{Digest: string(brig.DigestOf(b)), Size: int64(len(b))}
}

func (p pusher) manifest(tag, mediaType string, doc any) rawDescriptor {
	p.t.Helper()
	b, err := json.Marshal(doc)
	if err != nil {
		p.t.Fatal(err)
	}
	if tag == "" {
		tag = string(brig.DigestOf(b))
	}
	p.do("PUT", "http://"+p.host+"/v2/"+p.repo+"/manifests/"+tag, mediaType, b)
	return rawDescriptor{MediaType: mediaType, Digest: string(brig.DigestOf(b)), Size: int64(len(b))}
}

// image pushes an image with one layer per given text, and a config that names arch.
func (p pusher) image(tag, mediaType, arch string, layers ...string) rawDescriptor {
	p.t.Helper()
	oci := mediaType == typeOCIManifest
	config := p.blob([]byte(fmt.Sprintf(`{"os":"linux","architecture":%q,"rootfs":{"type":"layers","diff_ids":[]}}`, arch)))
	config.MediaType = "application/vnd.docker.container.image.v1+json"
	layerType := "application/vnd.docker.image.rootfs.diff.tar.gzip"
	if oci {
		config.MediaType, layerType = "application/vnd.oci.image.config.v1+json", "application/vnd.oci.image.layer.v1.tar+gzip"
	}
	m := map[string]any{"schemaVersion": 2, "config": config, "mediaType": mediaType}
	var ls []rawDescriptor
	for _, l := range layers {
		d := p.blob([]byte(l))
		d.MediaType = layerType
		ls = append(ls, d)
	}
	m["layers"] = ls
	return p.manifest(tag, mediaType, m)
}

func (p pusher) index(tag, mediaType string, entries map[string]rawDescriptor) rawDescriptor {
	p.t.Helper()
	var list []map[string]any
	for platform, d := range entries {
		e := map[string]any{"mediaType": d.MediaType, "digest": d.Digest, "size": d.Size}
		if platform != "" {
			pl := brig.ParsePlatform(platform)
			e["platform"] = map[string]any{"os": pl.OS, "architecture": pl.Architecture, "variant": pl.Variant}
		}
		list = append(list, e)
	}
	return p.manifest(tag, mediaType, map[string]any{"schemaVersion": 2, "mediaType": mediaType, "manifests": list})
}

func readLayer(t *testing.T, r *Registry, remote *brig.Remote, i int, offset int64) (string, error) {
	t.Helper()
	body, err := r.Layer(t.Context(), remote, remote.Layers[i], offset)
	if err != nil {
		return "", err
	}
	defer body.Close()
	b, err := io.ReadAll(body)
	return string(b), err
}

func TestPullFromRealRegistries(t *testing.T) {
	tests := []struct {
		name string
		host func(*testing.T) string
		auth brig.Auth
	}{
		{"in-process", func(t *testing.T) string { return serve(t, nil) }, brig.Auth{}},
		{"debian", func(t *testing.T) string { return debian(t, false) }, brig.Auth{}},
		{"debian with htpasswd", func(t *testing.T) string { return debian(t, true) }, brig.Auth{Username: "sailor", Password: "ahoy"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			host := tt.host(t)
			testPull(t, pusher{t, host, "crew/app", tt.auth.Username != ""}, tt.auth)
		})
	}
}

func testPull(t *testing.T, p pusher, auth brig.Auth) {
	r := newRegistry(t, Config{})
	amd := p.image("docker", typeDockerManifest, "amd64", "first layer", "second layer")
	arm := p.image("oci", typeOCIManifest, "arm64", "arm layer")
	list := p.index("list", typeDockerList, map[string]rawDescriptor{"linux/amd64": amd})
	index := p.index("index", typeOCIIndex, map[string]rawDescriptor{"linux/amd64": amd, "linux/arm64/v8": arm, "unknown/unknown": amd})
	tests := []struct {
		ref, platform string
		digest        string
		arch          string
		layers        []string
	}{
		{":docker", "", amd.Digest, "amd64", []string{"first layer", "second layer"}},
		{":oci", "linux/amd64", arm.Digest, "arm64", []string{"arm layer"}}, // one image, whatever was asked: docker warns
		{":list", "linux/amd64", list.Digest, "amd64", []string{"first layer", "second layer"}},
		{":index", "linux/arm64", index.Digest, "arm64", []string{"arm layer"}},
		{"@" + index.Digest, "linux/amd64", index.Digest, "amd64", []string{"first layer", "second layer"}},
		{":index@" + arm.Digest, "", arm.Digest, "arm64", []string{"arm layer"}},
	}
	for _, tt := range tests {
		remote, err := r.Resolve(t.Context(), p.host+"/"+p.repo+tt.ref, tt.platform, auth)
		if err != nil {
			t.Errorf("%s: %v", tt.ref, err)
			continue
		}
		if string(remote.Digest) != tt.digest || !strings.Contains(string(remote.Config), `"`+tt.arch+`"`) || len(remote.Layers) != len(tt.layers) {
			t.Errorf("%s: got %s, config %s, %d layers", tt.ref, remote.Digest, remote.Config, len(remote.Layers))
			continue
		}
		for i, want := range tt.layers {
			for _, off := range []int64{0, 3, int64(len(want))} {
				if got, err := readLayer(t, r, remote, i, off); err != nil || got != want[off:] {
					t.Errorf("%s layer %d from %d: %q, %v", tt.ref, i, off, got, err)
				}
			}
		}
	}
	tags, err := r.Tags(t.Context(), p.host+"/"+p.repo, auth)
	if want := []string{"docker", "index", "list", "oci"}; err != nil || !slices.Equal(tags, want) {
		t.Errorf("tags %v, %v", tags, err)
	}
	if status, err := r.CheckAuth(t.Context(), p.host, auth); err != nil || status != "Login Succeeded" {
		t.Errorf("CheckAuth: %q, %v", status, err)
	}
	_, err = r.Resolve(t.Context(), p.host+"/"+p.repo+":index", "linux/s390x", auth)
	if want := "no matching manifest for linux/s390x in the manifest list entries"; !errs.Is(err, errs.NotFound) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("no such platform: %v", err)
	}
	_, err = r.Resolve(t.Context(), p.host+"/"+p.repo+":none", "", auth)
	if want := "manifest for " + p.host + "/" + p.repo + ":none not found: manifest unknown: "; !errs.Is(err, errs.NotFound) || !strings.HasPrefix(err.Error(), want) {
		t.Errorf("no such tag: %v", err)
	}
}

func TestBasicRefusals(t *testing.T) {
	host := debian(t, true)
	r := newRegistry(t, Config{})
	_, err := r.Resolve(t.Context(), host+"/app", "", brig.Auth{})
	if !errs.Is(err, errs.Unauthorized) || !strings.Contains(err.Error(), "no basic auth credentials") {
		t.Errorf("anonymous: %v", err)
	}
	bad := brig.Auth{Username: "sailor", Password: "land"}
	if _, err = r.Resolve(t.Context(), host+"/app", "", bad); !errs.Is(err, errs.Unauthorized) {
		t.Errorf("wrong password: %v", err)
	}
	if _, err := r.CheckAuth(t.Context(), "http://"+host+"/v2/", bad); !errs.Is(err, errs.Unauthorized) {
		t.Errorf("login with a wrong password: %v", err)
	}
}

func TestBadReferences(t *testing.T) {
	r := newRegistry(t, Config{})
	sha512 := strings.Repeat("0", 128)
	for _, ref := range []string{"", "127.0.0.1:1/UPPER", "a b", "127.0.0.1:1/x@sha512:" + sha512, "127.0.0.1:1/x@sha256:12", "-", strings.Repeat("0", 64)} {
		if _, err := r.Resolve(t.Context(), ref, "", brig.Auth{}); !errs.Is(err, errs.Invalid) {
			t.Errorf("%q: %v", ref, err)
		}
	}
}

func TestUnreachable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	host := l.Addr().String()
	l.Close()
	r := newRegistry(t, Config{})
	_, err = r.Resolve(t.Context(), host+"/app", "", brig.Auth{})
	want := fmt.Sprintf("Get %q: dial tcp %s: connect: connection refused", "http://"+host+"/v2/", host)
	if !errs.Is(err, errs.Unavailable) || err.Error() != want {
		t.Errorf("got  %v (%v)\nwant %s", err, errs.KindOf(err), want)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err = r.Resolve(ctx, host+"/app", "", brig.Auth{}); !errs.Is(err, errs.Canceled) {
		t.Errorf("canceled: %v (%v)", err, errs.KindOf(err))
	}
}

func TestInsecure(t *testing.T) {
	r := newRegistry(t, Config{Insecure: []string{"House:5000", "10.1.0.0/16", "http://old"}})
	tests := map[string]bool{
		"localhost": true, "localhost:5000": true, "127.3.2.1:80": true, "[::1]:5000": true, "house:5000": true, "house": false,
		"10.1.2.3:5000": true, "10.2.0.1": false, "old": true, "old:5000": true, "[2001:db8::1]:1": false,
	}
	for host, want := range tests {
		if got := r.isInsecure(t.Context(), host); got != want {
			t.Errorf("%s: %v", host, got)
		}
	}
	if _, err := New(Config{Insecure: []string{"a/b"}}); !errs.Is(err, errs.Invalid) {
		t.Errorf("bad entry: %v", err)
	}
}

func TestTLS(t *testing.T) {
	srv := httptest.NewTLSServer(ggcr.New(ggcr.Logger(log.New(io.Discard, "", 0))))
	srv.Config.ErrorLog = log.New(io.Discard, "", 0)
	t.Cleanup(srv.Close)
	host := strings.TrimPrefix(srv.URL, "https://")
	// Loopback is insecure by rule, so its own certificate is taken as it is.
	r := newRegistry(t, Config{})
	if _, err := r.CheckAuth(t.Context(), host, brig.Auth{}); err != nil {
		t.Errorf("loopback: %v", err)
	}
	// The same registry under the strict rules: refused without its authority, and accepted with it.
	for _, withCA := range []bool{false, true} {
		dir := t.TempDir()
		if withCA {
			writeCA(t, filepath.Join(dir, host), srv)
		}
		r := newRegistry(t, Config{CertsDir: dir})
		r.hosts, r.nets = nil, nil
		_, err := r.CheckAuth(t.Context(), host, brig.Auth{})
		if withCA && err != nil || !withCA && !strings.Contains(fmt.Sprint(err), "x509") {
			t.Errorf("authority %v: %v", withCA, err)
		}
	}
}
