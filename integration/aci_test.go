package integration

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha512"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/images"
)

// brigRun runs the brig command on the suite's server and returns its output, both streams, and whether it succeeded. The test's end
// may call it too.
func brigRun(t testing.TB, args ...string) (string, bool) {
	t.Helper()
	out, err := exec.CommandContext(bed.ctx, filepath.Join(bed.bin, "brig"), append([]string{"--host", bed.server.Host}, args...)...).CombinedOutput()
	return strings.TrimSpace(string(out)), err == nil
}

// imported imports an ACI, wants success, and returns its ACI ID and docker's name, which the test's end removes.
func imported(t testing.TB, path string) (id, ref string) {
	t.Helper()
	out, good := brigRun(t, "image", "import", path)
	lines := strings.Split(out, "\n")
	id, ref, ok := strings.Cut(lines[len(lines)-1], " ")
	if !good || !ok {
		t.Fatalf("import %s: %s", path, out)
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", ref) })
	return id, ref
}

// oracle builds docker2aci of the nested module and returns its path.
func oracle(t *testing.T) string {
	t.Helper()
	offered(t, "docker2aci")
	return built(t, "docker2aci-oracle", "docker2aci", nil, "./docker2aci-oracle")
}

// convertedBy has docker2aci convert an image of the registry, and returns the ACIs, from the lowest up.
func convertedBy(t *testing.T, oracle string, name string, layered bool) []string {
	t.Helper()
	args := []string{t.TempDir(), "docker://" + image(name)}
	if layered {
		args = append([]string{"-layered"}, args...)
	}
	cmd := exec.CommandContext(t.Context(), oracle, args...)
	var errOut bytes.Buffer
	cmd.Stderr = &errOut
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker2aci: %v\n%s", err, errOut.String())
	}
	return strings.Fields(string(out))
}

func TestImportWhatDocker2ACIMade(t *testing.T) {
	own(t)
	tool := oracle(t)
	for _, layered := range []bool{false, true} {
		for _, name := range []string{"user:latest", "layers:latest"} {
			t.Run(fmt.Sprintf("%s layered=%v", name, layered), func(t *testing.T) {
				// docker2aci's annotations keep the name, so the import takes it over from the pulled image.
				t.Cleanup(func() { ok(t, "pull", "-q", image(name)) })
				ref := ""
				for _, path := range convertedBy(t, tool, name, layered) {
					id, got := imported(t, path)
					ref = got
					b, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					equal(t, "ACI ID", id, fmt.Sprintf("sha512-%x", sha512.Sum512(b)))
					list, _ := brigRun(t, "image", "ls", "--no-trunc")
					match(t, "brig image ls", list, id)
				}
				equal(t, "name", ref, image(name))
				if strings.HasPrefix(name, "user") {
					equal(t, "run", ok(t, "run", "--rm", ref, "sh", "-c", "id -un; pwd; echo $FROM_IMAGE"), "app\n/home/app\nyes")
				} else {
					equal(t, "run", ok(t, "run", "--rm", ref, "sh", "-c", "cat /data/b; ls -d /data/* /gone/new"), "b2/data/b\n/gone/new")
				}
			})
		}
	}
}

// aciOf packs an ACI of a manifest and files; a name that ends with a slash is a directory.
func aciOf(t testing.TB, manifest string, files map[string]string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	w := tar.NewWriter(z)
	put := func(name, body string) {
		h := &tar.Header{Name: name, Typeflag: tar.TypeReg, Size: int64(len(body)), Mode: 0o755}
		if strings.HasSuffix(name, "/") {
			h.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		w.Write([]byte(body))
	}
	put("manifest", manifest)
	put("rootfs/", "")
	for name, body := range files {
		put(name, body)
	}
	w.Close()
	z.Close()
	return tempFile(t, "x.aci", b.String())
}

func TestImportACI(t *testing.T) {
	own(t)
	shell, err := os.ReadFile(images.Busybox())
	if err != nil {
		t.Fatal(err)
	}
	head := `{"acKind":"ImageManifest","acVersion":"0.8.11","name":"example.com/%s","labels":[{"name":"version","value":"1"},{"name":"os","value":"linux"},{"name":"arch","value":"` + runtime.GOARCH + `"}]`
	base := aciOf(t, fmt.Sprintf(head, "base")+"}", map[string]string{"rootfs/bin/sh": string(shell), "rootfs/old": "1"})
	app := func(dep string) string {
		return aciOf(t, fmt.Sprintf(head, "app")+`,"app":{"exec":["/bin/sh","-c","cat /new; ls /old; pwd"],"user":"0","group":"0","workingDirectory":"/bin",
			"mountPoints":[{"name":"v","path":"/vol"}],"isolators":[{"name":"os/linux/capabilities-retain-set","value":{"set":["CAP_KILL"]}}]},
			"dependencies":[`+dep+`],"pathWhitelist":["/bin/sh","/new"]}`, map[string]string{"rootfs/new": "new\n", "rootfs/hidden": "h"})
	}
	out, good := brigRun(t, "image", "import", app(`{"imageName":"example.com/base"}`))
	equal(t, "without its dependency", good, false)
	match(t, "says what is missing", out, `dependency example.com/base is missing: no image has this name`)

	id, ref := imported(t, base)
	equal(t, "name", ref, "example.com/base:1")
	out, good = brigRun(t, "image", "import", app(`{"imageName":"example.com/base","labels":[{"name":"version","value":"2"}]}`))
	equal(t, "another version", good, false)
	match(t, "says why", out, `base,version=2 is missing: .*label version=1`)
	out, good = brigRun(t, "image", "import", app(`{"imageName":"example.com/base","imageID":"sha512-`+strings.Repeat("0", 128)+`"}`))
	equal(t, "another ID", good, false)
	match(t, "says the ID", out, id)

	path := app(`{"imageName":"example.com/base","imageID":"` + id + `","labels":[{"name":"version","value":"1"}]}`)
	_, ref = imported(t, path)
	again, _ := imported(t, path)
	match(t, "twice", again, "^sha512-")
	r := docker(t, "run", "--rm", ref)
	equal(t, "exec", r.Out, "new\n/bin\n")
	match(t, "hidden by the whitelist", r.Err, "/old: No such file")
	equal(t, "volumes", inspect(t, ref, "{{.Config.Volumes}}"), "map[/vol:{}]")
	fails(t, 1, "hidden", "run", "--rm", ref, "/bin/sh", "-c", "ls /hidden")

	flat := filepath.Join(t.TempDir(), "flat.aci")
	if out, good := brigRun(t, "image", "export", ref, flat); !good {
		t.Fatal(out)
	}
	ok(t, "rmi", "-f", ref, "example.com/base:1")
	_, ref = imported(t, flat)
	equal(t, "the export stands alone", ok(t, "run", "--rm", ref, "/bin/sh", "-c", "cat /new"), "new")
}

// listed is brig's list of images, once their ACI IDs are known.
func listed(t *testing.T) (out string) {
	t.Helper()
	eventually(t, "ACI IDs of all images", func() (bool, string) {
		out, _ = brigRun(t, "image", "ls", "--no-trunc")
		return !strings.Contains(out, "(computing)"), out
	})
	return out
}

func TestImportBadACI(t *testing.T) {
	own(t)
	before := listed(t)
	for words, path := range map[string]string{
		"has no manifest|read archive": tempFile(t, "a.aci", strings.Repeat("junk", 1000)),
		"not valid":                    aciOf(t, "{}", nil),
		"leads outside":                aciOf(t, "{}", map[string]string{"rootfs/../../x": ""}),
	} {
		out, good := brigRun(t, "image", "import", path)
		equal(t, path, good, false)
		match(t, path, out, words)
	}
	equal(t, "images", listed(t), before)
	if left, err := os.ReadDir(filepath.Join(bed.server.Root, "spool", "load")); err == nil && len(left) > 0 {
		t.Errorf("left in the spool: %v", left)
	}
}

// converted runs brig convert, wants success, and returns its lines.
func converted(t testing.TB, args ...string) []string {
	t.Helper()
	out, good := brigRun(t, append([]string{"convert"}, args...)...)
	if !good {
		t.Fatalf("convert %v: %s", args, out)
	}
	return strings.Split(out, "\n")
}

func TestConvert(t *testing.T) {
	own(t)
	dir := t.TempDir()
	ref := image("layers:latest")
	flat := filepath.Join(dir, "flat.aci")
	id := converted(t, "--insecure", "docker://"+ref, flat)[0]
	equal(t, "again", converted(t, "docker://"+ref, flat)[0], id)
	b, err := os.ReadFile(flat)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "the file's ID", fmt.Sprintf("sha512-%x", sha512.Sum512(b)), id)
	eventually(t, "brigd's ID of the same image", func() (bool, string) {
		out, _ := brigRun(t, "image", "ls", "--no-trunc")
		return strings.Contains(out, id), id + "\n" + out
	})

	archive := filepath.Join(dir, "layers.tar")
	ok(t, "save", "-o", archive, ref)
	fromArchive := converted(t, "docker-archive:"+archive, flat)
	equal(t, "lines", len(fromArchive), 1)
	layout := filepath.Join(dir, "layout")
	if out, err := exec.Command("mkdir", "-p", layout).CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	if out, err := exec.Command("tar", "-xf", archive, "-C", layout, "--exclude=manifest.json").CombinedOutput(); err != nil {
		t.Fatal(string(out))
	}
	equal(t, "from an OCI layout", converted(t, "oci:"+layout, flat)[0], fromArchive[0])

	acis := converted(t, "--squash=false", "docker://"+ref, filepath.Join(dir, "layered"))
	equal(t, "ACIs", len(acis), 4)
	equal(t, "the same again", strings.Join(converted(t, "--squash=false", "docker://"+ref, filepath.Join(dir, "layered")), "\n"), strings.Join(acis, "\n"))
	name := ""
	t.Cleanup(func() { ok(t, "pull", "-q", ref) }) // the import takes its name over
	for _, line := range acis {
		id, path, _ := strings.Cut(line, " ")
		var got string
		got, name = imported(t, path)
		equal(t, "ID", got, id)
	}
	equal(t, "run", ok(t, "run", "--rm", name, "sh", "-c", "find /data /opaque /gone | sort; cat /data/b"), "/data\n/data/b\n/gone\n/gone/new\n/opaque\n/opaque/y\nb2")

	for words, args := range map[string][]string{
		"(?i)not found|unknown|does not exist": {"docker://" + image("nosuch"), flat},
		"want docker://":                       {"ftp:x", flat},
		"no such file":                         {"docker-archive:" + filepath.Join(dir, "none"), flat},
		"(?i)invalid|EOF":                      {"docker-archive:" + tempFile(t, "bad.tar", string(b[:3000])), flat},
	} {
		out, good := brigRun(t, append([]string{"convert"}, args...)...)
		equal(t, args[0], good, false)
		match(t, args[0], out, words)
	}
	if left, _ := filepath.Glob(filepath.Join(os.TempDir(), "brig-convert-*")); len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
}
