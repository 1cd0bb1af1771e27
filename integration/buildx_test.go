package integration

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/testbed"
)

// TestBuildx has docker buildx make a builder in a container, which is privileged and has BuildKit in it, and build with it: through docker
// buildx, docker build, and docker compose. make test-buildx runs it.
func TestBuildx(t *testing.T) {
	if os.Getenv("BRIG_TEST_BUILDX") == "" {
		t.Skip("make test-buildx runs this")
	}
	programs, err := filepath.Abs("../.cache/buildx")
	if err != nil {
		t.Fatal(err)
	}
	cli := buildxCLI(t, programs)
	run := func(args ...string) testbed.Result { return dockerOn(t, cli, nil, args...) }
	good := func(args ...string) testbed.Result {
		t.Helper()
		r := run(args...)
		if r.Code != 0 {
			t.Fatal(r)
		}
		return r
	}
	daemon := buildkitImage(t, programs)
	builder := fresh("builder")
	cli.Env = append(cli.Env, "BUILDX_BUILDER="+builder) // without it docker build takes the docker command's own choice
	good("buildx", "create", "--name", builder, "--driver", "docker-container", "--driver-opt", "image="+daemon+",network=host")
	t.Cleanup(func() { run("buildx", "rm", "-f", builder) })
	good("buildx", "inspect", "--bootstrap", builder)
	match(t, "the builder's container", ok(t, "ps", "--format", "{{.Names}} {{.Image}}"), `(?m)^buildx_buildkit_`+builder+`0 `+regexp.QuoteMeta(daemon)+`$`)

	dir := buildDir(t, "f", "hi\n", "Dockerfile", "# check=skip=all\n"+base()+"RUN --mount=type=cache,target=/c --mount=type=bind,target=/ctx cat /ctx/f >/got; echo ran >>/c/x; cat /c/x\nCOPY --chmod=600 f /f\nCMD [\"cat\", \"/got\"]\n",
		"compose.yaml", "services:\n  x:\n    build: .\n    image: built/bx-compose\n")
	tag := builtTag(t)
	first := good("buildx", "build", "--progress", "plain", "--load", "-t", tag, dir)
	match(t, "the first build", first.Err, `\d ran\n`)
	if out := ok(t, "run", "--rm", tag); out != "hi" {
		t.Errorf("the image says %q", out)
	}
	second := good("build", "--progress", "plain", "--load", "-t", tag, dir) // docker build is buildx now
	match(t, "the second build", second.Err, `CACHED`)
	pushed := image("bx/pushed:1")
	good("buildx", "build", "--push", "-t", pushed, dir)
	t.Cleanup(func() { docker(t, "rmi", "-f", pushed) })
	ok(t, "pull", "-q", pushed)
	if out := ok(t, "run", "--rm", pushed); out != "hi" {
		t.Errorf("the pushed image says %q", out)
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", "built/bx-compose") })
	good("compose", "--project-directory", dir, "-f", filepath.Join(dir, "compose.yaml"), "build")
	if out := ok(t, "run", "--rm", "built/bx-compose"); out != "hi" {
		t.Errorf("compose's image says %q", out)
	}
	if r := run("buildx", "build", "--progress", "plain", buildDir(t, "Dockerfile", base()+"RUN echo so; exit 3\n")); r.Code == 0 || !strings.Contains(r.Err, "exit code: 3") {
		t.Errorf("a RUN that fails: %s", r)
	}
	match(t, "buildx du", good("buildx", "du").Out, `Total:\s+\S+[kMG]B`)
	good("buildx", "prune", "-af")
	good("buildx", "rm", builder)
	if left := ok(t, "ps", "-aq", "--filter", "name="+builder) + ok(t, "volume", "ls", "-q", "--filter", "name="+builder); left != "" {
		t.Errorf("the builder leaves %s", left)
	}
}

// buildxCLI is the docker command with buildx and compose.
func buildxCLI(t *testing.T, programs string) testbed.CLI {
	t.Helper()
	cli := testbed.CLI{Host: bed.server.Host, Config: t.TempDir(), Env: []string{"DOCKER_BUILDKIT=", "BUILDX_CONFIG=" + t.TempDir(), "BUILDX_NO_DEFAULT_ATTESTATIONS=1"}}
	if err := testbed.Compose("../.cache", cli.Config); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join(programs, "buildx"), filepath.Join(cli.Config, "cli-plugins", "docker-buildx")); err != nil {
		t.Fatal(err)
	}
	return cli
}

// buildkitImage makes an image of BuildKit, runc and busybox, puts it into the registry alone, and returns its name there.
func buildkitImage(t *testing.T, programs string) string {
	t.Helper()
	name := image("buildkit:1")
	r, w := io.Pipe()
	go func() { w.CloseWithError(packBuildkit(w, programs)) }()
	res := dockerOn(t, bed.cli, r, "import", "-c", `ENTRYPOINT ["buildkitd"]`, "-c", "ENV PATH=/usr/bin:/bin", "-", name)
	if res.Code != 0 {
		t.Fatal(res)
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", name) })
	ok(t, "push", "-q", name)
	ok(t, "rmi", name)
	return name
}

// packBuildkit writes the root file system of buildkitImage.
func packBuildkit(out io.Writer, programs string) error {
	busybox, err := exec.LookPath("busybox")
	if err != nil {
		return err
	}
	runc, err := exec.LookPath("runc")
	if err != nil {
		return err
	}
	files := map[string]string{"bin/busybox": busybox, "usr/bin/runc": runc, "usr/bin/buildkitd": filepath.Join(programs, "buildkitd"), "usr/bin/buildctl": filepath.Join(programs, "buildctl")}
	libs, err := exec.Command("ldd", runc).Output()
	if err != nil && !strings.Contains(string(libs), "not a dynamic executable") {
		return err
	}
	for _, lib := range regexp.MustCompile(`/\S+`).FindAllString(string(libs), -1) {
		files[strings.TrimPrefix(lib, "/")] = lib
	}
	w := tar.NewWriter(out)
	for to, from := range files {
		b, err := os.ReadFile(from)
		if err != nil {
			return err
		}
		if err := w.WriteHeader(&tar.Header{Name: to, Mode: 0o755, Size: int64(len(b))}); err != nil {
			return err
		}
		if _, err := io.Copy(w, bytes.NewReader(b)); err != nil {
			return err
		}
	}
	for _, dir := range []string{"tmp/", "etc/"} {
		if err := w.WriteHeader(&tar.Header{Name: dir, Typeflag: tar.TypeDir, Mode: 0o755}); err != nil {
			return err
		}
	}
	if err := w.WriteHeader(&tar.Header{Name: "bin/sh", Typeflag: tar.TypeSymlink, Linkname: "busybox"}); err != nil {
		return err
	}
	return w.Close()
}
