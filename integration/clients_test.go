package integration

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/brigd/brig/integration/internal/images"
)

// built is a program that this host's Go builds: go build ARGS in dir, with variables. Where BRIG_TEST_BUILT names a folder it is there, by its name, for the
// suite runs on a host without Go.
func built(t *testing.T, name, dir string, env []string, args ...string) string {
	t.Helper()
	if there := os.Getenv("BRIG_TEST_BUILT"); there != "" {
		return filepath.Join(there, name)
	}
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.CommandContext(t.Context(), "go", append([]string{"build", "-o", path}, args...)...)
	cmd.Dir, cmd.Env = dir, append(append(os.Environ(), "GOFLAGS=", "CGO_ENABLED=0"), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("go build %s in %s: %v\n%s", strings.Join(args, " "), dir, err, out)
	}
	return path
}

// clientOf builds a program of a nested module below clients/, whose dependencies stay out of brig's.
func clientOf(t *testing.T, module string) string {
	t.Helper()
	return built(t, module, filepath.Join("clients", module), nil, ".")
}

// runClient runs a client on the suite's server and returns what it printed.
func runClient(t *testing.T, env []string, program string, args ...string) string {
	t.Helper()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(append(os.Environ(), "DOCKER_HOST="+bed.server.Host, "HOME="+t.TempDir()), env...)
	cmd.Stdout, cmd.Stderr = &out, &said
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %v: %v\n%s\n%s", filepath.Base(program), args, err, out.String(), said.String())
	}
	return strings.TrimSpace(out.String())
}

// TestMobyClient has moby's own Go client, of its newest version, speak to the server.
func TestMobyClient(t *testing.T) {
	out := runClient(t, nil, clientOf(t, "moby"), image("busybox"))
	match(t, "the client", out, `^API 1\.[0-9]+$`)
}

// TestDiscovery has Prometheus' discovery find containers and reach them, and go-dockerclient follow their events, while they come and go.
func TestDiscovery(t *testing.T) {
	set, err := images.Services(bed.ctx, "../.cache", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	if err := (images.Set{"nginx:latest": set["nginx:latest"]}).Push(bed.ctx, bed.reg, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", image("nginx")) })
	ok(t, "pull", "-q", image("nginx"))
	label := "discover=" + fresh("d")
	said, end := discovery(t, label)
	defer end()
	net, one, two := fresh("net"), fresh("one"), fresh("two")
	ok(t, "network", "create", net)
	t.Cleanup(func() { docker(t, "rm", "-f", one, two, two+"x"); docker(t, "network", "rm", net) })
	run := func(args ...string) {
		ok(t, append(append([]string{"run", "-d", "--label", label}, args...), image("nginx"))...)
	}
	sees := func(lines ...string) {
		t.Helper()
		eventually(t, "the program prints "+strings.Join(lines, ", "), func() (bool, string) {
			out := said()
			for _, l := range lines {
				if !strings.Contains(out, l+"\n") {
					return false, out
				}
			}
			return true, ""
		})
	}
	run("--name", one, "--network", net, "--health-cmd", "true", "--health-interval", "1s")
	sees("event create "+one, "event start "+one, "up "+one+" "+net, "event health_status: healthy "+one)
	run("--name", two)
	sees("event start "+two, "up "+two+" bridge")
	ok(t, "rename", two, two+"x")
	sees("event rename "+two+"x", "down "+two+" bridge", "up "+two+"x bridge")
	ok(t, "rename", two+"x", two)
	ok(t, "network", "connect", net, two)
	ok(t, "network", "disconnect", "bridge", two)
	sees("up " + two + " " + net)
	ok(t, "kill", one)
	sees("event kill "+one, "event die "+one, "down "+one+" "+net)
	ok(t, "rm", "-f", one, two)
	sees("event destroy "+one, "event destroy "+two, "down "+two+" "+net)
	if n := strings.Count(said(), "event die "); n != 2 {
		t.Errorf("%d containers died, want 2:\n%s", n, said())
	}
}

// discovery starts the program of clients/discovery; said is what it has printed so far, and end ends it.
func discovery(t *testing.T, label string) (said func() string, end func()) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), clientOf(t, "discovery"), label)
	cmd.Env = append(os.Environ(), "DOCKER_HOST="+bed.server.Host)
	out, err := os.Create(filepath.Join(t.TempDir(), "said"))
	if err != nil {
		t.Fatal(err)
	}
	defer out.Close()
	var errOut bytes.Buffer
	cmd.Stdout, cmd.Stderr = out, &errOut
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	said = func() string {
		b, err := os.ReadFile(out.Name())
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	return said, func() {
		in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("discovery: %v\n%s", err, errOut.String())
		}
	}
}

// TestTestcontainers runs a server with testcontainers-go, which has a reaper with the server's socket in it remove all when the program has ended.
func TestTestcontainers(t *testing.T) {
	offered(t, "file mounts")
	set, err := images.Services(bed.ctx, "../.cache", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	ryuk, err := images.Program(built(t, "reaper", "clients/moby", []string{"GOOS=linux"}, "./reaper"))
	if err != nil {
		t.Fatal(err)
	}
	const reaper = "testcontainers/ryuk:0.14.0" // what testcontainers-go asks for
	if err := (images.Set{reaper: ryuk, "nginx:latest": set["nginx:latest"]}).Push(bed.ctx, bed.reg, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", image(reaper), image("nginx")) })
	id := runClient(t, []string{"TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX=" + bed.reg}, clientOf(t, "testcontainers"), image("nginx"))
	match(t, "container", id, `^[0-9a-f]{64}$`)
	for _, list := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q"}} {
		eventually(t, "everything of testcontainers is gone", func() (bool, string) {
			out := ok(t, append(list, "--filter", "label=org.testcontainers=true")...)
			return out == "", out
		})
	}
}
