package integration

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/brigd/brig/integration/internal/testbed"
)

// foreign is an architecture of the image multi that this machine doesn't have.
func foreign() string {
	if runtime.GOARCH == "arm64" {
		return "amd64"
	}
	return "arm64"
}

func TestPlatformNonsense(t *testing.T) {
	for _, args := range [][]string{{"pull"}, {"create"}, {"run"}} {
		fails(t, map[string]int{"pull": 1, "create": 1, "run": 125}[args[0]], `"nonsense": unknown operating system or architecture: invalid argument`,
			append(args, "--platform", "nonsense", image("multi"))...)
	}
	fails(t, 1, `"linux/a/b/c": cannot parse platform specifier: invalid argument`, "pull", "--platform", "linux/a/b/c", image("multi"))
	fails(t, 1, "no (matching )?manifest|no match for platform", "pull", "--platform", "windows/amd64", image("multi"))
}

// Once pulled for one platform, an image is refused for another, and taken with a warning where none is asked for.
func TestPlatformMismatch(t *testing.T) {
	other := "linux/" + foreign()
	docker(t, "rmi", "-f", image("multi")) // else the name may mean one for this platform as well
	ok(t, "pull", "-q", "--platform", other, image("multi"))
	t.Cleanup(func() {
		ok(t, "pull", "-q", image("multi"))
		docker(t, "image", "prune", "-f")
	})
	equal(t, "inspect", inspect(t, image("multi"), "{{.Os}}/{{.Architecture}}"), other)
	fails(t, 1, "image with reference "+image("multi")+" was found but (does not match the specified platform|its platform)", "create", "--pull", "never", "--platform", "linux/"+runtime.GOARCH, image("multi"))
	r := docker(t, "create", image("multi"))
	equal(t, "exit code", r.Code, 0)
	made(t, strings.TrimSpace(r.Out))
	match(t, "warning", r.Err, `(?i)The requested image's platform \(`+other+`\) does not match the detected host platform \((linux|freebsd)/`+runtime.GOARCH+`(/v\d)?\) and no specific platform was requested`)
	asked := docker(t, "create", "--platform", other, image("multi"))
	made(t, strings.TrimSpace(asked.Out))
	equal(t, "no warning when asked for", asked.Err, "")
	// The command pulls what is missing, and so gets the right one; the other is still there for who asks for it.
	id := made(t, ok(t, "create", "-q", "--platform", "linux/"+runtime.GOARCH, image("multi")))
	equal(t, "container's image", inspect(t, inspect(t, id, "{{.Image}}"), "{{.Architecture}}"), runtime.GOARCH)
	equal(t, "container's platform", inspect(t, id, "{{.Platform}}"), "linux")
	if bed.server.Owned {
		both := made(t, ok(t, "create", "--pull", "never", "--platform", other, image("multi")))
		equal(t, "the other's image", inspect(t, inspect(t, both, "{{.Image}}"), "{{.Architecture}}"), foreign())
		for _, arch := range []string{runtime.GOARCH, foreign()} {
			equal(t, "inspect --platform", ok(t, "image", "inspect", "--platform", "linux/"+arch, "-f", "{{.Architecture}}", image("multi")), arch)
		}
		equal(t, "without a platform", inspect(t, image("multi"), "{{.Architecture}}"), runtime.GOARCH)
	}
}

// The environment variable is the command's, and means --platform.
func TestPlatformVariable(t *testing.T) {
	cli := bed.cli
	cli.Env = append(cli.Env, "DOCKER_DEFAULT_PLATFORM=linux/"+foreign())
	r := dockerOn(t, cli, nil, "pull", "-q", image("multi"))
	equal(t, "exit code", r.Code, 0)
	t.Cleanup(func() {
		ok(t, "pull", "-q", image("multi"))
		docker(t, "image", "prune", "-f")
	})
	equal(t, "architecture", inspect(t, image("multi"), "{{.Architecture}}"), foreign())
	warned := dockerOn(t, cli, nil, "pull", image("busybox"))
	match(t, "a registry that has one platform alone", warned.Out+warned.Err, "WARNING: image with reference .* was found but ")
	equal(t, "exit code", warned.Code, 0)
}

func TestPlatformImport(t *testing.T) {
	id := made(t, ok(t, "create", image("busybox"), "true"))
	file := filepath.Join(t.TempDir(), "fs.tar")
	ok(t, "export", "-o", file, id)
	name := fresh("platform")
	ok(t, "import", "--platform", "linux/arm/v7", file, name)
	defer docker(t, "rmi", name)
	if reason, differs := dockerdDiffers["import platform"]; differs && !bed.server.Owned {
		t.Skip(reason)
	}
	equal(t, "platform", inspect(t, name, "{{.Os}}/{{.Architecture}}/{{.Variant}}"), "linux/arm/v7")
	fails(t, 1, `"nonsense": unknown operating system or architecture`, "import", "--platform", "nonsense", file)
}

// Commands about an image that is here take --platform too, from API 1.48 on.
func TestPlatformOfSaved(t *testing.T) {
	own(t)
	mine, other := "linux/"+runtime.GOARCH, "linux/"+foreign()
	file := filepath.Join(t.TempDir(), "s.tar")
	ok(t, "save", "--platform", mine, "-o", file, image("busybox"))
	const words = "does not match the specified platform"
	fails(t, 1, words, "save", "--platform", other, "-o", file, image("busybox"))
	fails(t, 1, words, "image", "inspect", "--platform", other, image("busybox"))
	fails(t, 1, words, "history", "--platform", other, image("busybox"))
	fails(t, 1, words, "push", "--platform", other, image("busybox"))
	equal(t, "inspect", ok(t, "image", "inspect", "--platform", mine, "-f", "{{.Architecture}}", image("busybox")), runtime.GOARCH)
}

// A brigd can be told which platforms to prefer.
func TestPlatformPreference(t *testing.T) {
	own(t)
	dir, err := os.MkdirTemp(bed.dir, "p")
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(dir, "c.toml")
	if err := os.WriteFile(conf, []byte(`platforms = ["linux/s390x", "linux/`+foreign()+`", "linux/`+runtime.GOARCH+`"]`), 0o600); err != nil {
		t.Fatal(err)
	}
	s := testbed.NewServer(bed.bin, dir, "--config", conf)
	ctx, cancel := context.WithTimeout(bed.ctx, time.Minute)
	defer cancel()
	if err := s.Start(ctx); err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := stopServer(s); err != nil {
			t.Error(err)
		}
	}()
	cli := testbed.CLI{Host: s.Host, Config: filepath.Join(dir, "config")}
	arch := func(args ...string) string {
		t.Helper()
		if r := dockerOn(t, cli, nil, append(append([]string{"pull", "-q"}, args...), image("multi"))...); r.Code != 0 {
			t.Fatal(r)
		}
		return strings.TrimSpace(dockerOn(t, cli, nil, "inspect", "-f", "{{.Architecture}}", image("multi")).Out)
	}
	equal(t, "the second of the list, for there is no first", arch(), foreign())
	equal(t, "asked for", arch("--platform", "linux/"+runtime.GOARCH), runtime.GOARCH)
	r := dockerOn(t, cli, nil, "create", image("multi"))
	equal(t, "no warning of what is preferred", r.Err, "")
}

// Of an archive with an image for several platforms, load takes the one asked for, else the host's.
func TestPlatformLoad(t *testing.T) {
	own(t)
	ref, err := name.ParseReference(image("multi"), name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	index, err := remote.Index(ref, remote.WithContext(bed.ctx))
	if err != nil {
		t.Fatal(err)
	}
	dir, loaded := t.TempDir(), fresh("loaded")+":1"
	p, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.AppendIndex(index, layout.WithAnnotations(map[string]string{"io.containerd.image.name": "docker.io/library/" + loaded})); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "multi.tar")
	if out, err := exec.Command("tar", "-C", dir, "-cf", file, ".").CombinedOutput(); err != nil {
		t.Fatalf("tar: %v\n%s", err, out)
	}
	defer docker(t, "rmi", "-f", loaded)
	for _, c := range []struct{ args, want string }{{"", runtime.GOARCH}, {"--platform=linux/" + foreign(), foreign()}, {"--platform=linux/" + runtime.GOARCH, runtime.GOARCH}} {
		ok(t, append([]string{"load", "-i", file}, strings.Fields(c.args)...)...)
		equal(t, "load "+c.args, inspect(t, loaded, "{{.Architecture}}"), c.want)
	}
	fails(t, 1, `requested platform \(linux/s390x\) not found`, "load", "-i", file, "--platform", "linux/s390x")
	docker(t, "image", "prune", "-f")
}
