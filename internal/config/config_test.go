package config

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestDefaultIsValid(t *testing.T) {
	c := Default()
	if err := c.Validate(); err != nil || c.Level() != slog.LevelInfo {
		t.Errorf("%v, level %v", err, c.Level())
	}
}

func TestSampleIsTheDefault(t *testing.T) {
	c, err := Load("../../contrib/brig.conf")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Validate(); err != nil {
		t.Error(err)
	}
	d := Default()
	if c.Root != d.Root || strings.Join(c.Hosts, " ") != strings.Join(d.Hosts, " ") || c.Storage != d.Storage || c.Group != d.Group || c.Runtime != d.Runtime || c.UnsignedACIs != d.UnsignedACIs ||
		c.DevfsRuleset != d.DevfsRuleset || c.LoadModules != d.LoadModules || c.Metadata != d.Metadata || c.MetadataUser != d.MetadataUser {
		t.Errorf("the sample says %+v, the defaults are %+v", c, d)
	}
	b, _ := os.ReadFile("../../contrib/brig.conf")
	for _, key := range []string{"root", "hosts", "group", "metrics-addr", "storage", "zfs-parent", "runtime", "shim", "log-level", "log-format", "insecure-registries", "platforms", "unsigned-acis", "metadata", "metadata-user", "registry-timeout", "keep-partial", "devfs-ruleset", "load-modules"} {
		if !strings.Contains(string(b), key+" = ") {
			t.Errorf("the sample doesn't show %s", key)
		}
	}
}

func TestBadFiles(t *testing.T) {
	for _, c := range []struct{ name, text, want string }{
		{"unknown key", "rot = \"/x\"", "rot"},
		{"syntax", "root = /x", "configuration"},
		{"type", "root = 3", "configuration"},
		{"storage", `storage = "btrfs"`, `storage: "btrfs" is none of`},
		{"timeout", "registry-timeout = 0", "not between 1 and 3600"},
		{"metrics", `metrics-addr = "9323"`, "not host:port"},
		{"metrics port", `metrics-addr = "localhost:http"`, "not host:port"},
		{"keep", "keep-partial = -1", "not between 1 and 8760"},
		{"level", `log-level = "loud"`, "log-level"},
		{"host", `hosts = ["/var/run/x.sock"]`, "neither unix:///path"},
		{"unsigned", `unsigned-acis = "yes"`, "unsigned-acis"},
		{"metadata", `metadata = "yes"`, "metadata"},
		{"metadata as root", `metadata-user = "0:0"`, "isn't root"},
		{"no host", `hosts = []`, "at least one"},
		{"no ruleset", "devfs-ruleset = 0", "devfs-ruleset: 0 is not between 6 and 65535"},
		{"the system's ruleset", "devfs-ruleset = 4", "devfs-ruleset: 4 is not"},
		{"large ruleset", "devfs-ruleset = 65536", "devfs-ruleset: 65536 is not"},
		{"modules", `load-modules = "yes"`, "configuration"},
		{"long root", `root = "/` + strings.Repeat("x", 80) + `"`, "no more than 75"},
		{"zfs-parent", "storage = \"copy\"\nzfs-parent = \"tank/brig\"", "no meaning"},
	} {
		path := filepath.Join(t.TempDir(), "brig.conf")
		if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
			t.Fatal(err)
		}
		conf, err := Load(path)
		if err == nil {
			err = conf.Validate()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want %q in it", c.name, err, c.want)
		}
	}
	if _, err := Load("/nonexistent/brig.conf"); err == nil {
		t.Error("a missing file is no error")
	}
}
