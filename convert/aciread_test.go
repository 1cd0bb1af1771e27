package convert

import (
	"archive/tar"
	"bytes"
	"crypto/sha512"
	"fmt"
	"io"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

const plainACI = `{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/app","labels":[{"name":"version","value":"1.0+b"},
	{"name":"os","value":"linux"},{"name":"arch","value":"aarch64"}]}`

func manifestFile(body string) file { return file{name: "manifest", body: body} }

// openACI reads it from a spool that must be empty afterwards.
func openACI(t *testing.T, b []byte) (*brig.ACIArchive, error) {
	t.Helper()
	spool := t.TempDir()
	a, err := New().ReadACI(t.Context(), bytes.NewReader(b), spool)
	if err == nil {
		t.Cleanup(func() { a.Close() })
	}
	if left, _ := os.ReadDir(spool); len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
	return a, err
}

// entriesOf lists a layer, sorted as it stands: type, name, link and content.
func entriesOf(t *testing.T, l brig.ArchiveLayer) (out []string) {
	t.Helper()
	tr := tar.NewReader(bytes.NewReader(read(t, l)))
	for {
		h, err := tr.Next()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		b, _ := io.ReadAll(tr)
		out = append(out, strings.TrimSpace(fmt.Sprintf("%c %s %s%s", h.Typeflag, h.Name, h.Linkname, b)))
	}
}

func TestReadACICompressions(t *testing.T) {
	b := tarOf(t, dir("rootfs"), file{name: "rootfs/a", body: "x"}, file{name: "./rootfs/b", typ: tar.TypeLink, link: "rootfs/a"}, manifestFile(plainACI))
	for name, packed := range map[string][]byte{"none": b, "gzip": gz(b), "zstd": zst(t, b), "xz": run(t, b, "xz", "-c"), "bzip2": run(t, b, "bzip2", "-c")} {
		a, err := openACI(t, packed)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if want := fmt.Sprintf("sha512-%x", sha512.Sum512(b)); a.ID != want || a.Name != "example.com/app" || string(a.Manifest) != plainACI {
			t.Errorf("%s: %q, ID %s, want %s", name, a.Name, a.ID, want)
		}
		if got, want := entriesOf(t, a.Layer), []string{"5 ./", "0 a x", "1 b a"}; !reflect.DeepEqual(got, want) {
			t.Errorf("%s: layer %q, want %q", name, got, want)
		}
		if name != "none" {
			_, err := openACI(t, packed[:len(packed)-len(packed)/4])
			if !errs.Is(err, errs.Invalid) {
				t.Errorf("%s, truncated: %v, want Invalid", name, err)
			}
		}
	}
}

func TestHostileACIs(t *testing.T) {
	m, root := manifestFile(plainACI), dir("rootfs/")
	version := func(v string) file { return manifestFile(strings.Replace(plainACI, "0.8.11", v, 1)) }
	for _, c := range []struct {
		name  string
		files []file
		words string
	}{
		{"empty", nil, "no manifest"},
		{"no manifest", []file{root}, "no manifest"},
		{"no rootfs", []file{m}, "no rootfs"},
		{"rootfs is a file", []file{m, {name: "rootfs", body: "x"}}, "not a directory"},
		{"rootfs is a link", []file{m, {name: "rootfs", typ: tar.TypeSymlink, link: "/"}}, "not a directory"},
		{"two manifests", []file{m, root, m}, "two manifests"},
		{"manifest is a link", []file{{name: "manifest", typ: tar.TypeSymlink, link: "/etc/passwd"}, root}, "not a regular file"},
		{"huge manifest", []file{manifestFile(plainACI + strings.Repeat(" ", maxDocument)), root}, "more than"},
		{"bad manifest", []file{manifestFile("{"), root}, "not valid"},
		{"other kind", []file{manifestFile(strings.Replace(plainACI, "ImageManifest", "PodManifest", 1)), root}, "not valid"},
		{"no name", []file{manifestFile(`{"acKind":"ImageManifest","acVersion":"0.8.11"}`), root}, "not valid"},
		{"bad os", []file{manifestFile(strings.Replace(plainACI, `"linux"`, `"plan9"`, 1)), root}, "not valid"},
		{"version 1", []file{version("1.0.0"), root}, "acVersion 1.0.0 is not known"},
		{"version 0.9", []file{version("0.9.0"), root}, "acVersion 0.9.0 is not known"},
		{"no version", []file{version(""), root}, "not valid"},
		{"outside rootfs", []file{m, root, {name: "etc/passwd", body: "x"}}, "neither the manifest nor in rootfs"},
		{"like rootfs", []file{m, root, {name: "rootfs2/x", body: "x"}}, "neither the manifest nor in rootfs"},
		{"traversal", []file{m, root, {name: "rootfs/../../x", body: "x"}}, "leads outside"},
		{"traversal within", []file{m, root, {name: "rootfs/a/../x", body: "x"}}, "leads outside"},
		{"absolute", []file{m, root, {name: "/rootfs/x", body: "x"}}, "leads outside"},
		{"hard link out", []file{m, root, {name: "rootfs/x", typ: tar.TypeLink, link: "manifest"}}, "outside rootfs"},
		{"hard link up", []file{m, root, {name: "rootfs/x", typ: tar.TypeLink, link: "rootfs/../../etc/passwd"}}, "leads outside"},
		{"whiteout", []file{m, root, {name: "rootfs/.wh.x"}}, "means a removal"},
	} {
		_, err := openACI(t, tarOf(t, c.files...))
		if !errs.Is(err, errs.Invalid) || !strings.Contains(err.Error(), c.words) {
			t.Errorf("%s: %v, want Invalid with %q", c.name, err, c.words)
		}
	}
	whole := tarOf(t, m, root, file{name: "rootfs/a", body: strings.Repeat("x", 4000)})
	if _, err := openACI(t, whole[:len(whole)-4096]); !errs.Is(err, errs.Invalid) {
		t.Errorf("truncated: %v, want Invalid", err)
	}
	if _, err := openACI(t, []byte(strings.Repeat("no tar", 500))); !errs.Is(err, errs.Invalid) {
		t.Errorf("no tar: %v, want Invalid", err)
	}
}

func TestImageFromACI(t *testing.T) {
	app := `,"app":{"exec":["/a","b"],"user":"7","group":"7","workingDirectory":"/w","environment":[{"name":"A","value":"1"}],
		"mountPoints":[{"name":"d","path":"/data"}],"ports":[{"name":"p","protocol":"tcp","port":80},{"name":"r","protocol":"udp","port":5,"count":3}],
		"userLabels":{"k":"v"},"isolators":[{"name":"os/linux/capabilities-retain-set","value":{"set":["CAP_KILL"]}}]}`
	notes := `,"annotations":[{"name":"appc.io/docker/registryurl","value":"registry-1.docker.io"},{"name":"appc.io/docker/repository","value":"crew/app_x"},
		{"name":"appc.io/docker/imageid","value":"x"},{"name":"appc.io/docker/entrypoint","value":"[\"/a\"]"},{"name":"appc.io/docker/cmd","value":"[\"b\"]"}]`
	for _, c := range []struct {
		name, extra, ref, user string
		entry, cmd             []string
		warnings               int
	}{
		{"owners", `,"app":{"exec":["/a","b"],"user":"/x","group":"/y","workingDirectory":"/w","environment":[{"name":"A","value":"1"}],"mountPoints":[{"name":"d","path":"/data"}],
			"ports":[{"name":"p","protocol":"tcp","port":80},{"name":"r","protocol":"udp","port":5,"count":3},{"name":"i","protocol":"ipx","port":5}],
			"userLabels":{"k":"v"},"isolators":[{"name":"nobody.knows/it","value":1}]}`, "example.com/app:1.0-b", "/x:/y", nil, []string{"/a", "b"}, 1},
		{"bare", "", "example.com/app:1.0-b", "", nil, nil, 0},
		{"app", app, "example.com/app:1.0-b", "7:7", nil, []string{"/a", "b"}, 0},
		{"annotated", app + notes, "crew/app_x:1.0-b", "7", []string{"/a"}, []string{"b"}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			conv := New()
			a, err := openACI(t, tarOf(t, manifestFile(strings.TrimSuffix(plainACI, "}")+c.extra+"}"), dir("rootfs/")))
			if err != nil {
				t.Fatal(err)
			}
			img, warnings, closeTop, err := conv.ImageFromACI(t.Context(), a, nil, t.TempDir())
			if err != nil {
				t.Fatal(err)
			}
			defer closeTop()
			d, err := conv.ImageConfig(img.Config)
			if err != nil {
				t.Fatal(err)
			}
			if len(img.Refs) != 1 || img.Refs[0] != c.ref || len(warnings) != c.warnings || d.Platform.String() != "linux/arm64" {
				t.Errorf("refs %v, want %s; warnings %q; %s", img.Refs, c.ref, warnings, d.Platform)
			}
			if d.Config.User != c.user || !reflect.DeepEqual(d.Config.Entrypoint, c.entry) || !reflect.DeepEqual(d.Config.Cmd, c.cmd) {
				t.Errorf("user %q, entrypoint %q, cmd %q", d.Config.User, d.Config.Entrypoint, d.Config.Cmd)
			}
			if got := fmt.Sprint(d.Config.WorkingDir, d.Config.Env, d.Config.Volumes, d.Config.Exposed, d.Config.Labels); c.extra != "" &&
				got != "/w[A=1] [/data] [5/udp 6/udp 7/udp 80/tcp] map[k:v]" {
				t.Errorf("config: %s", got)
			}
			if h := d.History; len(h) != 1 || h[0].Comment != a.ID || len(d.Diffs) != 1 || d.Diffs[0] != a.Layer.Diff {
				t.Errorf("history %v, diffs %v", h, d.Diffs)
			}
		})
	}
}

func TestPathWhitelist(t *testing.T) {
	lower := image(t, nil, func(b []byte) []byte { return gz(b) }, tarOf(t, dir("etc/"), file{name: "etc/passwd", body: "x"}, file{name: "etc/gone", body: "x"},
		dir("dir/"), file{name: "dir/a"}, file{name: "dir/.wh.z"})).Layers
	manifest := strings.TrimSuffix(plainACI, "}") + `,"pathWhitelist":["/etc/passwd","/new/deep"]}`
	a, err := openACI(t, tarOf(t, manifestFile(manifest), dir("rootfs/"), dir("rootfs/new"), file{name: "rootfs/new/deep", body: "y"}, file{name: "rootfs/new/not", body: "z"}))
	if err != nil {
		t.Fatal(err)
	}
	img, _, closeTop, err := New().ImageFromACI(t.Context(), a, lower, t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer closeTop()
	want := []string{"0 .wh.dir", "0 etc/.wh.gone", "5 ./", "5 new/", "0 new/deep y"}
	if got := entriesOf(t, img.Layers[1]); !reflect.DeepEqual(got, want) {
		t.Errorf("top layer %q, want %q", got, want)
	}
}

func TestRefName(t *testing.T) {
	for name, want := range map[string]string{
		"example.com/a": "example.com/a", "a..b/c~d": "a-b/c-d", "a--b/-c-": "a--b/c", "a_b.c/x_.y": "a_b.c/x-y", "a/": "a",
		strings.Repeat("0a", 32): "aci/" + strings.Repeat("0a", 32),
	} {
		if got := refName(name); got != want {
			t.Errorf("%s: %s, want %s", name, got, want)
		}
		if _, err := familiar(refName(name)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzACI: whatever comes, ReadACI returns, and what it accepts makes an image whose layer stays beneath its root.
func FuzzACI(f *testing.F) {
	f.Add(tarOf(f, manifestFile(plainACI), dir("rootfs/"), file{name: "rootfs/a", body: "x"}))
	f.Add(gz(tarOf(f, file{name: "rootfs/b", typ: tar.TypeSymlink, link: "../.."}, manifestFile(strings.TrimSuffix(plainACI, "}")+`,"pathWhitelist":["/b"]}`))))
	f.Add(tarOf(f, manifestFile(`{"acKind":"ImageManifest","acVersion":"0.8.1","name":"a","app":{"exec":["/x"],"user":"0","group":"0"}}`), dir("rootfs/"),
		file{name: "rootfs/c", typ: tar.TypeLink, link: "rootfs/a"}))
	f.Add(tarOf(f, file{name: "rootfs/../x"}))
	spool, conv := f.TempDir(), New()
	f.Fuzz(func(t *testing.T, b []byte) {
		a, err := conv.ReadACI(t.Context(), bytes.NewReader(b), spool)
		if err != nil {
			return
		}
		defer a.Close()
		img, _, closeTop, err := conv.ImageFromACI(t.Context(), a, nil, spool)
		if err != nil {
			return
		}
		defer closeTop()
		if _, err := conv.ImageConfig(img.Config); err != nil {
			t.Errorf("the config is not valid: %v\n%s", err, img.Config)
		}
		for _, e := range entriesOf(t, img.Layers[0]) {
			if name := strings.SplitN(e, " ", 3)[1]; strings.HasPrefix(name, "/") || strings.HasPrefix(name, "../") {
				t.Errorf("entry %q leads outside", e)
			}
		}
	})
}
