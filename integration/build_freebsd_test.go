package integration

import "testing"

// setCapability does nothing: FreeBSD's own files have no capabilities, and the docker command there sends none.
func setCapability(string) error { return nil }

// cpuTicks is not known: ps has it in whole seconds.
func cpuTicks(*testing.T, int) int { return 0 }

// What stands on no image is for the host's system, unless another one is asked for.
func TestBuildScratchIsTheHosts(t *testing.T) {
	dir := buildDir(t, "Dockerfile", "FROM scratch\nCOPY f /\n", "f", "x\n")
	for platform, want := range map[string]string{"": "freebsd", "linux/amd64": "linux"} {
		args := []string{"build", "-q", dir}
		if platform != "" {
			args = []string{"build", "-q", "--platform", platform, dir}
		}
		equal(t, "the system of a build for "+platform, ok(t, "image", "inspect", "-f", "{{.Os}}", ok(t, args...)), want)
	}
}
