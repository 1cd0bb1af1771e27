package integration

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// brigMust is the output of a brig command that has to succeed.
func brigMust(t *testing.T, s *testbed.Server, args ...string) string {
	t.Helper()
	out, code := brigOn(t, s.Host, args...)
	if code != 0 {
		t.Fatalf("brig %v: %s", args, out)
	}
	return strings.TrimSpace(out)
}

// lastLine is where brig build and brig image import say the ACI's ID and docker's name.
func lastLine(t testing.TB, out string) (id, ref string) {
	t.Helper()
	lines := strings.Split(out, "\n")
	id, ref, found := strings.Cut(lines[len(lines)-1], " ")
	if !found || !strings.HasPrefix(id, "sha512-") {
		t.Fatalf("no ID in the end: %s", out)
	}
	return id, ref
}

// aciManifest is what tests look at of an image manifest.
type aciManifest struct {
	ACKind       string
	Name         string
	Labels       []struct{ Name, Value string }
	Annotations  []struct{ Name, Value string }
	Dependencies []struct {
		ImageName, ImageID string
		Labels             []struct{ Name, Value string }
	}
	PathWhitelist []string
}

func manifestOf(t *testing.T, s *testbed.Server, ref string) (m aciManifest) {
	t.Helper()
	if err := json.Unmarshal([]byte(brigMust(t, s, "image", "manifest", ref)), &m); err != nil {
		t.Fatal(err)
	}
	return m
}

// value of a label or an annotation; "-" if there is none.
func value(list []struct{ Name, Value string }, name string) string {
	for _, l := range list {
		if l.Name == name {
			return l.Value
		}
	}
	return "-"
}

// example builds an example image as make images does, and returns its ACI ID and docker's name.
func example(t *testing.T, name string) (id, ref string) {
	t.Helper()
	cache, err := filepath.Abs("../.cache/images")
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), "../images/build.sh", name)
	cmd.Env = append(os.Environ(), "BRIG="+filepath.Join(bed.bin, "brig"), "BRIG_HOST="+bed.server.Host, "BASE="+image("busybox"), "CACHE="+cache)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("build.sh: %v\n%s", err, out)
	}
	id, ref = lastLine(t, strings.TrimSpace(string(out)))
	t.Cleanup(func() { docker(t, "rmi", "-f", ref) })
	return id, ref
}

// The example image nginx, whose packages come from the host's apt; the build itself asks nobody.
func TestBuildNginx(t *testing.T) {
	own(t)
	if _, err := exec.LookPath("apt-get"); err != nil {
		t.Skip("its packages come from Debian's apt")
	}
	_, ref := example(t, "nginx")
	match(t, "name", ref, `^example\.com/nginx:\d+\.\d+`)
	id := ok(t, "run", "-d", ref)
	t.Cleanup(func() { docker(t, "rm", "-f", id) })
	eventually(t, "an answer", func() (bool, string) {
		r := docker(t, "exec", id, "wget", "-q", "-O", "-", "http://127.0.0.1/")
		return r.Out == "nginx in a brig\n", r.String()
	})
}

// The example image showenv, by the script that make images calls.
func TestBuildShowenv(t *testing.T) {
	own(t)
	containers := ok(t, "ps", "-aq")
	id, ref := example(t, "showenv")
	equal(t, "name", ref, "example.com/showenv:1.0.0")
	match(t, "known by its ID", listed(t), id)

	m := manifestOf(t, bed.server, ref)
	base := manifestOf(t, bed.server, image("busybox"))
	equal(t, "kind", m.ACKind, "ImageManifest")
	for _, label := range []string{"os", "arch"} {
		equal(t, "the parent's "+label, value(m.Labels, label), value(base.Labels, label))
	}
	match(t, "timestamp", value(m.Annotations, "timestamp"), `^\d{4}-\d\d-\d\dT`)
	equal(t, "dependencies", len(m.Dependencies), 1)
	equal(t, "parent", m.Dependencies[0].ImageName, base.Name)
	equal(t, "the parent's ID", m.Dependencies[0].ImageID, brigMust(t, bed.server, "image", "export", image("busybox"), filepath.Join(t.TempDir(), "base.aci")))
	equal(t, "whitelist", len(m.PathWhitelist), 0)

	said := ok(t, "run", "--rm", "--hostname", "shown", ref)
	for _, line := range []string{
		"program: /usr/local/bin/showenv", "argument: one", "argument: two words", `identity: uid=61 gid=61`, "directory: /opt/data", "before the start: uid=61",
		"environment: FOO=bar", "environment: HOSTNAME=shown", `mount: .* on /opt/data `,
	} {
		match(t, "what it shows", said, line)
	}
	equal(t, "the layer", ok(t, "run", "--rm", "--entrypoint", "/bin/sh", ref, "-c", "ls -A / | tr '\\n' ' '; stat -c %a:%u /opt/data"),
		ok(t, "run", "--rm", image("busybox"), "sh", "-c", "(ls -A /; echo opt) | sort | tr '\\n' ' '; echo 775:61"))
	equal(t, "containers", ok(t, "ps", "-aq"), containers)
}

// What the base has and the build deletes is not in the ACI's whitelist, and gone where the ACI is imported beside its parent.
func TestBuildIncremental(t *testing.T) {
	own(t)
	dir, work := t.TempDir(), t.TempDir()
	script := "echo out; echo err >&2; pwd | grep -q ^/.brig-build- && test $(id -u):$(id -g) = 0:0 && rm /etc/os-release /bin/vi && rm -r /home/app && " +
		"mkdir /home/app && echo new > /home/app/new && ln /home/app/new /home/app/link && cp extra /etc/extra && chown 1000:1000 /etc/extra && " +
		`echo '{"name":"example.com/lean","labels":[{"name":"version","value":"3"},{"name":"arch","value":""}],"app":{"exec":["/bin/cat","/etc/extra"],"user":"0","group":"0"}}' > manifest.json`
	args := []string{"build", "--dir", work, "--cp", tempFile(t, "extra", "more\n"), "--tag", "lean:other", image("busybox"), "sh", "-c", script}
	out := brigMust(t, bed.server, args...)
	match(t, "what the command says", out, "(?m)^out$")
	match(t, "on both streams", out, "(?m)^err$")
	id, ref := lastLine(t, out)
	t.Cleanup(func() { docker(t, "rmi", "-f", ref, "lean:other") })
	equal(t, "names", inspect(t, ref, "{{.RepoTags}}"), "[example.com/lean:3 lean:other]")
	m := manifestOf(t, bed.server, ref)
	equal(t, "a label that is taken away", value(m.Labels, "arch"), "-")
	for path, there := range map[string]bool{"/bin/sh": true, "/etc/passwd": true, "/home/app/new": true, "/etc/extra": true, "/bin/vi": false, "/etc/os-release": false} {
		equal(t, path+" in the whitelist", slices.Contains(m.PathWhitelist, path), there)
	}

	child, parent := filepath.Join(dir, "child.aci"), filepath.Join(dir, "parent.aci")
	equal(t, "the exported ACI's ID", brigMust(t, bed.server, "image", "export", "--incremental", ref, child), id)
	packed, err := os.ReadFile(child)
	if err != nil {
		t.Fatal(err)
	}
	equal(t, "what is in it", strings.Join(entriesOf(t, string(packed)), " "),
		"manifest rootfs rootfs/bin rootfs/etc rootfs/etc/extra rootfs/home rootfs/home/app rootfs/home/app/link rootfs/home/app/new")
	parentID := brigMust(t, bed.server, "image", "export", image("busybox"), parent)
	_, good := brigRun(t, "image", "export", "--incremental", image("busybox"), filepath.Join(dir, "x.aci"))
	equal(t, "an increment of an image that was pulled", good, false)

	ctx, cancel := context.WithTimeout(bed.ctx, patience)
	defer cancel()
	other, err := startServer(ctx, "empty")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := stopServer(other); err != nil {
			t.Error(err)
		}
	})
	_, code := brigOn(t, other.Host, "image", "import", child)
	equal(t, "import without the parent", code, 1)
	equal(t, "the parent's ID", first(brigMust(t, other, "image", "import", parent)), parentID)
	equal(t, "the child's ID", first(brigMust(t, other, "image", "import", child)), id)
	equal(t, "the manifest", brigMust(t, other, "image", "manifest", "example.com/lean:3"), brigMust(t, bed.server, "image", "manifest", ref))
	equal(t, "the whole tree", brigMust(t, other, "image", "export", "example.com/lean:3", filepath.Join(dir, "there.aci")),
		brigMust(t, bed.server, "image", "export", ref, filepath.Join(dir, "here.aci")))
	equal(t, "again", brigMust(t, other, "image", "export", "--incremental", "example.com/lean:3", filepath.Join(dir, "again.aci")), id)
	cli := testbed.CLI{Host: other.Host, Config: bed.cli.Config}
	r := dockerOn(t, cli, nil, "run", "--rm", "example.com/lean:3")
	equal(t, "it runs", r.Out, "more\n")
}

func first(s string) string { return strings.Fields(s)[0] }

// A build that fails leaves nothing.
func TestBuildACIFails(t *testing.T) {
	own(t)
	images, containers := listed(t), ok(t, "ps", "-aq")
	roots := names(t, "store", "c")
	put := func(manifest string) []string {
		return []string{"sh", "-c", fmt.Sprintf("echo '%s' > manifest.json", manifest)}
	}
	for _, c := range []struct {
		base  string
		args  []string
		words string
	}{
		{image("busybox"), []string{"sh", "-c", "exit 3"}, `the command 'sh -c exit 3' returned a non-zero code: 3`},
		{image("busybox"), []string{"nosuch"}, `"nosuch": executable file not found in \$PATH`},
		{image("busybox"), []string{"true"}, `manifest.json.*no such file`},
		{image("busybox"), []string{"mkfifo", "manifest.json"}, `manifest.json.*not a regular file`},
		{image("busybox"), []string{"ln", "-s", "/etc/passwd", "manifest.json"}, `manifest.json.*escapes`},
		{image("busybox"), put("{"), `manifest.json: unexpected end`},
		{image("busybox"), put(`{"labels":[]}`), `manifest.json:.*name`},
		{image("busybox"), put(`{"name":"example.com/x","dependencies":[{"imageName":"example.com/y"}]}`), `manifest.json: it has dependencies`},
		{image("busybox"), put(`{"name":"example.com/x","app":{"exec":["/x"],"user":"0"}}`), `manifest.json:.*group`},
		{"nosuch.example/image", []string{"true"}, `No such image`},
	} {
		out, good := brigRun(t, append([]string{"build", "--dir", t.TempDir(), c.base}, c.args...)...)
		equal(t, strings.Join(c.args, " "), good, false)
		match(t, strings.Join(c.args, " "), out, c.words)
	}
	equal(t, "images", listed(t), images)
	equal(t, "containers", ok(t, "ps", "-aq"), containers)
	equal(t, "root file systems", names(t, "store", "c"), roots)
}

// names lists a directory beneath the server's root.
func names(t testing.TB, elem ...string) string {
	t.Helper()
	list, err := os.ReadDir(filepath.Join(append([]string{bed.server.Root}, elem...)...))
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range list {
		out = append(out, e.Name())
	}
	return strings.Join(out, " ")
}
