// Package peers moves images between brig and the other engines that are installed, through a registry and through archives: whatever way
// they go, they stay the same images. make peers runs it with
// Debian's dockerd, podman and skopeo.
package peers

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/brigd/brig/integration/internal/images"
	"github.com/brigd/brig/integration/internal/testbed"
)

// bed is what all tests share.
var bed struct {
	ctx          context.Context
	dir          string
	reg          string // the registry, 127.0.0.1:PORT
	brig, docker testbed.CLI
}

func TestMain(m *testing.M) {
	if os.Getenv("BRIG_TEST_PEERS") == "" {
		fmt.Println("peers: skipped: make peers runs this")
		return
	}
	for _, program := range []string{"dockerd", "containerd", "podman", "skopeo"} {
		if _, err := exec.LookPath(program); err != nil || os.Getuid() != 0 {
			fmt.Printf("peers: needs root and %s (make deps-peers)\n", program)
			os.Exit(1)
		}
	}
	if !testbed.Inside() { // dockerd changes the network, so it gets one of its own
		code, err := testbed.Reenter()
		testbed.Exit("peers", code, err)
	}
	code, err := run(m)
	testbed.Exit("peers", code, err)
}

func run(m *testing.M) (code int, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	if err := testbed.LoopbackUp(); err != nil {
		return 1, err
	}
	bed.ctx, bed.dir = ctx, testbed.Dir()
	dirs := map[string]string{}
	for _, name := range []string{"registry", "brig", "dockerd", "config"} {
		dirs[name] = filepath.Join(bed.dir, name)
		if err := os.Mkdir(dirs[name], 0o700); err != nil {
			return 1, err
		}
	}
	set, err := images.Build()
	if err != nil {
		return 1, err
	}
	reg, err := testbed.StockedRegistry(ctx, dirs["registry"], set)
	if err != nil {
		return 1, err
	}
	defer reg.Close()
	bed.reg = reg.Addr
	bin, err := filepath.Abs("../../bin")
	if err != nil {
		return 1, err
	}
	s := testbed.NewServer(bin, dirs["brig"])
	if err := s.Start(ctx); err != nil {
		return 1, err
	}
	defer s.Stop()
	d, err := testbed.StartDockerd(ctx, dirs["dockerd"])
	if err != nil {
		return 1, err
	}
	defer d.Close()
	bed.brig, bed.docker = testbed.CLI{Host: s.Host, Config: dirs["config"]}, testbed.CLI{Host: d.Host, Config: dirs["config"]}
	return m.Run(), nil
}

// on runs docker on one of the engines, wants success, and returns what it printed.
func on(t *testing.T, cli testbed.CLI, args ...string) string {
	t.Helper()
	r := cli.Run(bed.ctx, nil, args...)
	if r.Code != 0 {
		t.Fatal(r)
	}
	return strings.TrimSpace(r.Out)
}

func id(t *testing.T, cli testbed.CLI, ref string) string {
	t.Helper()
	return on(t, cli, "image", "inspect", "-f", "{{.Id}}", ref)
}

// command runs another program and returns its output.
func command(t *testing.T, argv ...string) string {
	t.Helper()
	out, err := exec.CommandContext(bed.ctx, argv[0], argv[1:]...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(argv, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func podman(t *testing.T, args ...string) string {
	t.Helper()
	store := filepath.Join(bed.dir, "podman")
	return command(t, append([]string{"podman", "--root", store, "--runroot", store + "-run", "--storage-driver", "vfs"}, args...)...)
}

var digestRE = regexp.MustCompile(`digest: (sha256:[0-9a-f]{64})`)

// TestRoundTrip: brig pulls and pushes, dockerd pulls what was pushed: the same image by the same digest. dockerd pushes it on, and brig
// pulls that: the same image.
func TestRoundTrip(t *testing.T) {
	for _, name := range []string{"busybox", "layers", "user", "plain", "multi", "zstd"} {
		t.Run(name, func(t *testing.T) {
			from, to := bed.reg+"/"+name+":latest", bed.reg+"/round/"+name+":1"
			on(t, bed.brig, "pull", "-q", from)
			on(t, bed.brig, "tag", from, to)
			want := id(t, bed.brig, from)
			defer on(t, bed.brig, "rmi", "-f", want) // images that share an ID share the manifest that came first
			pulled := on(t, bed.brig, "image", "inspect", "-f", "{{.RepoDigests}}", from)
			said := digestRE.FindStringSubmatch(on(t, bed.brig, "push", to))
			if said == nil {
				t.Fatal("push says no digest")
			}
			pushed := said[1]
			if name != "multi" && !strings.Contains(pulled, "/"+name+"@"+pushed) { // of an index one image is pushed
				t.Errorf("pulled as %s, pushed as %s", pulled, pushed)
			}
			if name == "zstd" {
				if got := command(t, "skopeo", "inspect", "--tls-verify=false", "--format", "{{.Digest}}", "docker://"+to); got != pushed {
					t.Errorf("skopeo finds %s, want %s", got, pushed)
				}
				return // dockerd 20.10 can't read zstd
			}
			on(t, bed.docker, "pull", "-q", to)
			if got := on(t, bed.docker, "image", "inspect", "-f", "{{.RepoDigests}}", to); !strings.Contains(got, strings.TrimSuffix(to, ":1")+"@"+pushed) || id(t, bed.docker, to) != want {
				t.Errorf("dockerd has %s %s, want %s %s", id(t, bed.docker, to), got, want, pushed)
			}
			back := bed.reg + "/back/" + name + ":1"
			on(t, bed.docker, "tag", to, back)
			on(t, bed.docker, "push", "-q", back)
			on(t, bed.brig, "rmi", "-f", want)
			on(t, bed.brig, "pull", "-q", back)
			if got := id(t, bed.brig, back); got != want {
				t.Errorf("brig has %s, want %s", got, want)
			}
		})
	}
}

// TestArchives: what one engine saves the others load as the same images, compressed or not, one or several.
func TestArchives(t *testing.T) {
	dir := t.TempDir()
	// The third is an OCI image: of the others podman and skopeo would make OCI archives with configs of their own.
	a, b, o := bed.reg+"/layers:latest", bed.reg+"/user:latest", bed.reg+"/plain:latest"
	want := map[string]string{}
	for _, ref := range []string{a, b, o} {
		on(t, bed.docker, "pull", "-q", ref)
		on(t, bed.brig, "pull", "-q", ref)
		podman(t, "pull", "-q", "--tls-verify=false", ref)
		want[ref] = id(t, bed.docker, ref)
	}
	file := func(name string) string { return filepath.Join(dir, name+".tar") }
	on(t, bed.docker, "save", "-o", file("dockerd"), a, b)
	on(t, bed.brig, "save", "-o", file("brig"), a, b)
	podman(t, "save", "-q", "-m", "-o", file("podman"), a, b)
	podman(t, "save", "-q", "--format", "oci-archive", "-o", file("podman-oci"), o)
	command(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+a, "docker-archive:"+file("skopeo")+":"+a)
	command(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+o, "oci-archive:"+file("skopeo-oci")+":"+o)
	command(t, "skopeo", "copy", "-q", "--src-tls-verify=false", "docker://"+o, "oci:"+filepath.Join(dir, "layout")+":"+o)
	command(t, "tar", "-C", filepath.Join(dir, "layout"), "-cf", file("layout"), ".")
	for _, from := range []string{"dockerd", "podman-oci", "brig"} {
		command(t, "gzip", "-1k", file(from))
		command(t, "xz", "-0k", file(from))
		command(t, "zstd", "-qk", file(from))
	}
	type loader struct {
		cli   testbed.CLI
		files []string
	}
	for engine, l := range map[string]loader{
		"brig": {bed.brig, []string{"dockerd.tar", "brig.tar", "podman.tar", "podman-oci.tar", "skopeo.tar", "skopeo-oci.tar", "layout.tar",
			"dockerd.tar.gz", "dockerd.tar.xz", "podman-oci.tar.gz", "podman-oci.tar.zst", "brig.tar.xz", "brig.tar.zst"}},
		"dockerd": {bed.docker, []string{"brig.tar", "brig.tar.gz", "brig.tar.xz"}},
	} {
		for _, name := range l.files {
			for _, ref := range []string{a, b, o} {
				l.cli.Run(bed.ctx, nil, "rmi", "-f", want[ref])
			}
			out := on(t, l.cli, "load", "-i", filepath.Join(dir, name))
			refs := []string{a, b}
			switch base, _, _ := strings.Cut(name, "."); base {
			case "skopeo":
				refs = []string{a}
			case "podman-oci", "skopeo-oci", "layout":
				refs = []string{o}
			}
			for _, ref := range refs {
				if got := id(t, l.cli, ref); got != want[ref] {
					t.Errorf("%s loads %s: %s, want %s\n%s", engine, name, got, want[ref], out)
				}
			}
		}
	}
	podman(t, "rmi", "-fa")
	podman(t, "load", "-q", "-i", file("brig"))
	for _, ref := range []string{a, b} {
		id := want[ref]
		if got := podman(t, "image", "inspect", "-f", "{{.Id}}", ref); "sha256:"+got != id {
			t.Errorf("podman loads %s: %s, want %s", ref, got, id)
		}
	}
}
