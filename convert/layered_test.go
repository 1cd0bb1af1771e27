package convert

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/appc/spec/schema"
	"github.com/google/go-containerregistry/pkg/registry"

	"github.com/brigd/brig/internal/brig"
)

// layeredACIs writes an image as one ACI per layer and returns their paths, and all bytes.
func layeredACIs(t *testing.T, img brig.ArchiveImage, ref string, manifest brig.Digest) (paths []string, all []byte) {
	t.Helper()
	dir := t.TempDir()
	err := New().WriteLayered(t.Context(), img, ref, manifest, func(string) (io.WriteCloser, error) {
		paths = append(paths, filepath.Join(dir, fmt.Sprint(len(paths), ".aci")))
		return os.Create(paths[len(paths)-1])
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range paths {
		b, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, b...)
	}
	return paths, all
}

// TestLayeredOracle compares with docker2aci's ACIs of one layer each: names, labels and dependencies of all, the whole manifest of the
// topmost with its whitelist. The whitelists below lack docker2aci's stdio links, which it puts into each layer and so over what a
// lower layer brings; here the topmost alone gets those that the whole image lacks.
func TestLayeredOracle(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: layers have owners and devices")
	}
	tools := buildTools(t)
	srv := httptest.NewServer(registry.New(registry.Logger(log.New(io.Discard, "", 0))))
	t.Cleanup(srv.Close)
	for i, c := range oracleCases(t) {
		if c.wrong != "" {
			continue
		}
		t.Run(c.name, func(t *testing.T) {
			repo := fmt.Sprintf("crew/app_%d", i)
			ref := strings.TrimPrefix(srv.URL, "http://") + "/" + repo + ":v1"
			img, digest, top := c.push(t, srv.URL, repo)
			ours, bytes1 := layeredACIs(t, img, ref, digest)
			if _, bytes2 := layeredACIs(t, img, ref, digest); !bytes.Equal(bytes1, bytes2) {
				t.Error("one image gave different bytes")
			}
			var errOut bytes.Buffer
			cmd := exec.Command(tools+"/docker2aci-oracle", "-layered", t.TempDir(), "docker://"+ref)
			cmd.Stderr = &errOut
			out, err := cmd.Output()
			theirs := strings.Fields(string(out))
			if err != nil || len(theirs) != len(ours) {
				t.Fatalf("docker2aci: %v, %d ACIs, ours %d\n%s", err, len(theirs), len(ours), errOut.String())
			}
			for n := range ours {
				run(t, nil, tools+"/actool", "validate", ours[n])
				a, b := readACI(t, ours[n]), readACI(t, theirs[n])
				dropStdio(a.tree, b.tree)
				slices.Sort(a.manifest.PathWhitelist)
				slices.Sort(b.manifest.PathWhitelist) // docker2aci appends what it adds
				if !reflect.DeepEqual(a.tree, b.tree) {
					t.Errorf("layer %d: trees differ\nours   %v\ntheirs %v", n, a.tree, b.tree)
				}
				if n == len(ours)-1 {
					compareManifests(t, a.manifest, b.manifest, brig.DigestOf(img.Config), top)
				} else {
					compareLower(t, a.manifest, b.manifest)
				}
			}
		})
	}
}

// dropStdio takes the links that docker2aci adds out of both trees.
func dropStdio(trees ...map[string]string) {
	for _, tree := range trees {
		for _, l := range stdio {
			delete(tree, "rootfs/"+l.name)
			delete(tree, "/"+l.name)
			delete(tree, l.name)
		}
	}
}

func compareLower(t *testing.T, ours, theirs schema.ImageManifest) {
	t.Helper()
	var list []string
	for _, p := range theirs.PathWhitelist {
		if !strings.HasPrefix(p, "/dev/std") && p != "/dev/fd" {
			list = append(list, p)
		}
	}
	theirs.PathWhitelist = list
	a, _ := json.MarshalIndent(ours, "", " ")
	b, _ := json.MarshalIndent(theirs, "", " ")
	if !bytes.Equal(a, b) {
		t.Errorf("manifests differ\nours   %s\ntheirs %s", a, b)
	}
}

func TestSeen(t *testing.T) {
	entry := func(name string, typ byte) tar.Header { return tar.Header{Name: name, Typeflag: typ} }
	d, f := byte(tar.TypeDir), byte(tar.TypeReg)
	s := newSeen()
	s.add([]tar.Header{entry("./", d), entry("./a/", d), entry("a/x", f), entry("a/y", f), entry("b/", d), entry("b/z", f), entry("c/", d), entry("c/d/", d), entry("c/d/e", f)})
	if !s.top {
		t.Error("the root's own entry was not seen")
	}
	// Removed and made again in one layer; opaque with a new file before the mark; a directory replaced; aufs's own files.
	s.add([]tar.Header{entry("a/.wh.x", f), entry("a/x", f), entry("a/.wh.y", f), entry("b/new", f), entry("b/.wh..wh..opq", f), entry("c/d", f), entry(".wh..wh.plnk", d)})
	want := map[string]bool{"/a": true, "/a/x": false, "/b": true, "/b/new": false, "/c": true, "/c/d": false}
	if s.top || !reflect.DeepEqual(s.paths, want) {
		t.Errorf("seen %v, want %v", s.paths, want)
	}
	s.add([]tar.Header{entry("q/r/s", f)})
	s.add([]tar.Header{entry("q/r/.wh.s", f), entry("c/.wh.d", f)})
	want = map[string]bool{"/a": true, "/a/x": false, "/b": true, "/b/new": false, "/c": true, "/q": true, "/q/r": true}
	if !reflect.DeepEqual(s.paths, want) {
		t.Errorf("with directories that nothing names: seen %v, want %v", s.paths, want)
	}
	if n := len(s.links()); n != len(stdio) {
		t.Errorf("%d stdio links, want %d", n, len(stdio))
	}
	s.add([]tar.Header{entry("dev", f)})
	if s.links() != nil {
		t.Error("links in a /dev that is a file")
	}
}
