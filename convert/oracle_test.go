package convert

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/appc/spec/schema"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/tarfs"
)

// buildTools builds docker2aci and actool from the nested module and returns their directory.
func buildTools(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	cmd := exec.Command("go", "build", "-o", dir+"/", "./docker2aci-oracle", "github.com/appc/spec/actool")
	cmd.Dir, cmd.Env = "../integration/docker2aci", append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the oracle: %v\n%s", err, out)
	}
	return dir
}

// oracleCase is an image that both convert.
type oracleCase struct {
	name   string
	config string // its "config" key
	pack   func([]byte) []byte
	layers [][]file
	oci    bool
	index  bool // push it behind an OCI index
	// wrong says what docker2aci does wrong, "" if it is right: its error, or a word for how its tree differs.
	wrong string
}

func dir(name string) file { return file{name: name, typ: tar.TypeDir, mode: 0o755} }

func oracleCases(t *testing.T) []oracleCase {
	shell, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Fatalf("%v (make deps installs busybox-static)", err)
	}
	gzip := func(b []byte) []byte { return gz(b) }
	base := []file{dir("bin/"), {name: "bin/busybox", body: string(shell), mode: 0o755}, {name: "bin/sh", typ: tar.TypeSymlink, link: "busybox"},
		{name: "bin/ls", typ: tar.TypeLink, link: "bin/busybox"}, dir("etc/"), {name: "etc/passwd", body: "root:x:0:0::/:/bin/sh\n", uid: 3, gid: 4}}
	full := `{"User":"sailor:crew","Env":["PATH=/bin","A=1","A=2"],"Entrypoint":["/bin/sh"],"Cmd":["-c","true"],"WorkingDir":"/srv","Labels":{"x":"y"},
		"ExposedPorts":{"80/tcp":{},"53/udp":{}},"Volumes":{"/data":{},"/var/lib/x":{}}}`
	return []oracleCase{
		{name: "busybox", config: full, pack: gzip, layers: [][]file{base}},
		{name: "oci", config: `{}`, pack: gzip, layers: [][]file{base}, oci: true},
		{name: "user alone", config: `{"User":"7","Cmd":["a"]}`, pack: gzip, layers: [][]file{base}},
		{name: "whiteout", config: full, pack: gzip, layers: [][]file{base, {dir("etc/"), {name: "etc/.wh.passwd"}, {name: "etc/group", body: "x"}}}},
		{name: "replaced", config: full, pack: gzip, layers: [][]file{base, {{name: "etc/passwd", body: "new", mode: 0o600}}, {{name: "bin/sh", body: "no link", mode: 0o4755}}}},
		{name: "special files", config: full, pack: gzip, layers: [][]file{{dir("dev/"), {name: "dev/null", typ: tar.TypeChar, mode: 0o666},
			{name: "dev/stdout", typ: tar.TypeSymlink, link: "/proc/self/fd/1"}, {name: "pipe", typ: tar.TypeFifo}, {name: "tmp/", typ: tar.TypeDir, mode: 0o1777}}}},
		{name: "zstd", config: full, pack: func(b []byte) []byte { return zst(t, b) }, layers: [][]file{base}, oci: true, wrong: "empty rootfs"},
		{name: "opaque", config: full, pack: gzip, layers: [][]file{base, {dir("etc/"), {name: "etc/.wh..wh..opq"}, {name: "etc/new", body: "x"}}}, wrong: "hidden files show"},
		{name: "index", config: full, pack: gzip, layers: [][]file{base}, oci: true, index: true, wrong: "exit status 1"},
		{name: "port range", config: `{"ExposedPorts":{"8000-8002/tcp":{}}}`, pack: gzip, layers: [][]file{base}, wrong: "error parsing port"},
		{name: "relative directory", config: `{"WorkingDir":"srv"}`, pack: gzip, layers: [][]file{base}, wrong: "workingDirectory must be an absolute path"},
		{name: "bad variable", config: `{"Env":["a b=1"]}`, pack: gzip, layers: [][]file{base}, wrong: "does not have valid identifier"},
	}
}

// TestOracle converts each image with docker2aci and here. Where docker2aci is right, manifest and tree are equal; where it is wrong
// the table says how, and ours is what the layers say. actool validates every ACI of ours.
func TestOracle(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: layers have owners and devices")
	}
	tools := buildTools(t)
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	for i, c := range oracleCases(t) {
		t.Run(c.name, func(t *testing.T) {
			ref := fmt.Sprintf("%s/Crew/app_%d:v1", strings.TrimPrefix(srv.URL, "http://"), i)
			ref = strings.Replace(ref, "Crew", "crew", 1)
			img, manifest, top := c.push(t, srv.URL, fmt.Sprintf("crew/app_%d", i))
			ours := c.ours(t, tools, img, ref, manifest)
			out, err := exec.Command(tools+"/docker2aci-oracle", t.TempDir(), "docker://"+ref).CombinedOutput()
			if err != nil {
				if c.wrong == "" || !strings.Contains(string(out)+err.Error(), c.wrong) {
					t.Errorf("docker2aci: %v\n%s", err, out)
				}
				return
			}
			lines := strings.Split(strings.TrimSpace(string(out)), "\n")
			theirs := readACI(t, lines[len(lines)-1])
			equalTree := reflect.DeepEqual(ours.tree, theirs.tree)
			if equalTree != (c.wrong == "") {
				t.Errorf("trees equal: %v, docker2aci's fault %q\nours   %v\ntheirs %v", equalTree, c.wrong, ours.tree, theirs.tree)
			}
			compareManifests(t, ours.manifest, theirs.manifest, brig.DigestOf(img.Config), top)
		})
	}
}

// push puts the image into the registry and returns it, its manifest's digest and its top layer's.
func (c oracleCase) push(t *testing.T, url, repo string) (brig.ArchiveImage, brig.Digest, string) {
	t.Helper()
	var tars [][]byte
	for _, l := range c.layers {
		tars = append(tars, tarOf(t, l...))
	}
	img := image(t, nil, c.pack, tars...)
	img.Config = bytes.Replace(img.Config, []byte(`"config":{"Cmd":["/bin/sh"]}`), []byte(`"author":"Ahab","created":"2020-01-02T03:04:05Z","config":`+c.config), 1)
	put := func(path, contentType string, b []byte) {
		t.Helper()
		req, _ := http.NewRequest(http.MethodPut, url+path, bytes.NewReader(b))
		req.Header.Set("Content-Type", contentType)
		resp, err := http.DefaultClient.Do(req)
		if err != nil || resp.StatusCode >= 300 {
			t.Fatalf("%s: %v %v", path, resp, err)
		}
		resp.Body.Close()
	}
	blob := func(mediaType string, b []byte) descriptor {
		t.Helper()
		resp, err := http.Post(url+"/v2/"+repo+"/blobs/uploads/", "", nil)
		if err != nil {
			t.Fatal(err)
		}
		resp.Body.Close()
		put(resp.Header.Get("Location")+"?digest="+string(brig.DigestOf(b)), "application/octet-stream", b)
		return descriptor{MediaType: mediaType, Digest: string(brig.DigestOf(b)), Size: int64(len(b))}
	}
	m := ociManifest{SchemaVersion: 2, MediaType: typeDockerManifest, Config: blob("application/vnd.docker.container.image.v1+json", img.Config)}
	layerType := "application/vnd.docker.image.rootfs.diff.tar.gzip"
	if c.oci {
		m.MediaType, m.Config.MediaType, layerType = typeOCIManifest, typeOCIConfig, typeOCILayer+"+gzip"
	}
	for _, l := range img.Layers {
		m.Layers = append(m.Layers, blob(layerType, read(t, l)))
	}
	b, _ := json.Marshal(m)
	if c.index {
		put("/v2/"+repo+"/manifests/"+string(brig.DigestOf(b)), m.MediaType, b)
		index, _ := json.Marshal(ociIndex{SchemaVersion: 2, MediaType: typeOCIIndex, Manifests: []descriptor{{MediaType: m.MediaType, Digest: string(brig.DigestOf(b)), Size: int64(len(b))}}})
		put("/v2/"+repo+"/manifests/v1", typeOCIIndex, index)
	} else {
		put("/v2/"+repo+"/manifests/v1", m.MediaType, b)
	}
	return img, brig.DigestOf(b), m.Layers[len(m.Layers)-1].Digest
}

// ours converts the image as brig does, twice, and has actool validate it.
func (c oracleCase) ours(t *testing.T, tools string, img brig.ArchiveImage, ref string, manifest brig.Digest) aciContents {
	t.Helper()
	conv := New()
	_, m, err := conv.ACIManifest(img.Config, ref, manifest)
	if err != nil {
		t.Fatal(err)
	}
	root := t.TempDir()
	for _, l := range img.Layers {
		plain, err := conv.Decompress(t.Context(), bytes.NewReader(read(t, l)), "")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := tarfs.Extract(t.Context(), root, plain, tarfs.Options{Whiteouts: tarfs.Apply}); err != nil {
			t.Fatal(err)
		}
		plain.Close()
	}
	var aci, again bytes.Buffer
	for _, w := range []io.Writer{&aci, &again} {
		if err := conv.WriteACI(t.Context(), w, m, root); err != nil {
			t.Fatal(err)
		}
	}
	if !bytes.Equal(aci.Bytes(), again.Bytes()) {
		t.Error("one tree gave different bytes")
	}
	path := filepath.Join(t.TempDir(), "image.aci")
	if err := os.WriteFile(path, aci.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	run(t, nil, tools+"/actool", "validate", path)
	return readACI(t, path)
}

type aciContents struct {
	manifest schema.ImageManifest
	tree     map[string]string // path: type, mode, owner, link or content
}

// readACI reads an uncompressed ACI. A hard link is described as what it leads to; directories that only exist because something
// lies in them, and the top, are not compared.
func readACI(t *testing.T, path string) aciContents {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	c := aciContents{tree: map[string]string{}}
	for tr := tar.NewReader(f); ; {
		h, err := tr.Next()
		if err == io.EOF {
			return c
		}
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(tr)
		if err != nil {
			t.Fatal(err)
		}
		name := filepath.Clean(h.Name)
		switch {
		case name == "manifest":
			if err := json.Unmarshal(b, &c.manifest); err != nil {
				t.Fatal(err)
			}
		case name == "rootfs":
		case h.Typeflag == tar.TypeLink:
			c.tree[name] = c.tree[filepath.Clean(h.Linkname)]
		default:
			if h.Typeflag == tar.TypeSymlink {
				h.Mode = 0o777 // it means nothing, symlink(7)
			}
			c.tree[name] = fmt.Sprintf("%c %o %d:%d %d,%d %s %x", h.Typeflag, h.Mode&0o7777, h.Uid, h.Gid, h.Devmajor, h.Devminor, h.Linkname, sha256.Sum256(b))
		}
	}
}

// compareManifests wants both equal but for the image ID, in whose place docker2aci puts the digest of the topmost layer.
func compareManifests(t *testing.T, ours, theirs schema.ImageManifest, id brig.Digest, top string) {
	t.Helper()
	const key = "appc.io/docker/imageid"
	our, _ := ours.Annotations.Get(key)
	their, _ := theirs.Annotations.Get(key)
	if our != string(id) || their != top {
		t.Errorf("image ID %s, want %s; docker2aci's %s, want %s", our, id, their, top)
	}
	theirs.Annotations.Set(key, our)
	a, _ := json.MarshalIndent(ours, "", " ")
	b, _ := json.MarshalIndent(theirs, "", " ")
	if !bytes.Equal(a, b) {
		t.Errorf("manifests differ\nours   %s\ntheirs %s", a, b)
	}
}
