package main

import (
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/brigd/brig/internal/config"
	"github.com/brigd/brig/internal/hostcheck"
)

// What doctor gathers is what this host has; and nothing is taken for missing that brigd itself has just made or loaded.
func TestLookAtHost(t *testing.T) {
	bin := os.Getenv("BRIG_TEST_BIN")
	if os.Getuid() != 0 || bin == "" {
		t.Skip("needs root, since brigd makes a devfs ruleset, and brig's programs (make test-freebsd)")
	}
	dir, err := os.MkdirTemp("", "brig-look-") // short: sockets lie beneath it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	c := config.Default()
	c.Root, c.Storage, c.Shim = dir, "copy", filepath.Join(bin, "brig-shim")
	e, err := open(t.Context(), c, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { e.Close() })
	h := &housekeeper{e: e}
	seen := h.lookAtHost(t.Context())
	if !regexp.MustCompile(`^\d+\.\d+-[A-Z]+`).MatchString(seen.Running) || !strings.Contains(seen.Version, seen.Running) {
		t.Errorf("kernel %q, %q", seen.Running, seen.Version)
	}
	if want := map[string]string{"amd64": "amd64", "arm64": "aarch64"}[runtime.GOARCH]; seen.Arch != want {
		t.Errorf("machine %q, want %q", seen.Arch, want)
	}
	if seen.Sysctls["security.jail.jailed"] != "0" || seen.Sysctls["kern.securelevel"] == "" {
		t.Errorf("settings %q", seen.Sysctls)
	}
	for name, got := range seen.Sysctls {
		if out, ok := ask(t.Context(), "sysctl", "-n", name); !ok || out != got {
			t.Errorf("%s is %q, and %q by sysctl(8)", name, got, out)
		}
	}
	if !slices.Equal(seen.Rules, seen.Wanted) || seen.Ruleset != e.ruleset {
		t.Errorf("devfs ruleset %d is %q, want %q", seen.Ruleset, seen.Rules, seen.Wanted)
	}
	if !slices.ContainsFunc(seen.NICs, func(n hostcheck.NIC) bool { return n.Name == "lo0" }) {
		t.Errorf("interfaces %+v", seen.NICs)
	}
	if seen.Driver != "copy" || seen.Pool != "" {
		t.Errorf("driver %q on %q", seen.Driver, seen.Pool)
	}
	for _, f := range hostcheck.Judge(seen) {
		t.Logf("%s: %s [%s]", f.Subject, f.Problem, f.Command)
		if f.Subject == "devfs" {
			t.Errorf("brigd's own ruleset is found fault with: %s", f.Problem)
		}
	}
	if facts := h.systemFacts(t.Context()); len(facts) < len(hostcheck.Sysctls) || facts[0] != [2]string{"kernel", seen.Running} {
		t.Errorf("facts %q", facts)
	}
}
