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

// clientOf builds a program of a nested module below clients/, whose dependencies stay out of brig's.
func clientOf(t *testing.T, module, program string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "client")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-o", path, program)
	cmd.Dir, cmd.Env = filepath.Join("clients", module), append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build %s of %s: %v\n%s", program, module, err, out)
	}
	return path
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
	out := runClient(t, nil, clientOf(t, "moby", "."), image("busybox"))
	match(t, "the client", out, `^API 1\.[0-9]+$`)
}

// TestTestcontainers runs a server with testcontainers-go, which has a reaper with the server's socket in it remove all when the program has ended.
func TestTestcontainers(t *testing.T) {
	set, err := images.Services(bed.ctx, "../.cache", os.Stderr)
	if err != nil {
		t.Fatal(err)
	}
	ryuk, err := images.Program(clientOf(t, "moby", "./reaper"))
	if err != nil {
		t.Fatal(err)
	}
	const reaper = "testcontainers/ryuk:0.14.0" // what testcontainers-go asks for
	if err := (images.Set{reaper: ryuk, "nginx:latest": set["nginx:latest"]}).Push(bed.ctx, bed.reg, nil); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { docker(t, "rmi", "-f", image(reaper), image("nginx")) })
	id := runClient(t, []string{"TESTCONTAINERS_HUB_IMAGE_NAME_PREFIX=" + bed.reg}, clientOf(t, "testcontainers", "."), image("nginx"))
	match(t, "container", id, `^[0-9a-f]{64}$`)
	for _, list := range [][]string{{"ps", "-aq"}, {"network", "ls", "-q"}} {
		eventually(t, "everything of testcontainers is gone", func() (bool, string) {
			out := ok(t, append(list, "--filter", "label=org.testcontainers=true")...)
			return out == "", out
		})
	}
}
