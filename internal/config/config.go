// Package config is brigd's configuration: one struct, one Validate. A TOML file and flags fill it in; it is sane without either.
package config

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/logopts"
)

// maxRoot bounds the root's length in bytes: a shim's socket lies 24 bytes deeper, and sun_path has room for 104 (FreeBSD) or 108 (Linux).
const maxRoot = 75

// lastSystemRuleset is the highest number in FreeBSD's own /etc/defaults/devfs.rules.
const lastSystemRuleset = 5

// Config is what brigd can be told. The names are those of the file's keys and, with dashes, of the flags.
type Config struct {
	Root               string            `toml:"root"`                // everything that brigd keeps
	Hosts              []string          `toml:"hosts"`               // unix:///path, tcp://address:port
	Group              string            `toml:"group"`               // that may use the socket, by name or number; "brig" may be missing on the host, another one not
	TLSVerify          bool              `toml:"tlsverify"`           // take TCP clients with a certificate of TLSCACert's alone
	TLSCACert          string            `toml:"tlscacert"`           // file, PEM
	TLSCert            string            `toml:"tlscert"`             // brigd's own; file, PEM
	TLSKey             string            `toml:"tlskey"`              // its key; file, PEM
	MetricsAddr        string            `toml:"metrics-addr"`        // host:port that answers /metrics to everybody; "": none
	Storage            string            `toml:"storage"`             // auto, zfs, overlay, copy
	ZFSParent          string            `toml:"zfs-parent"`          // dataset to keep images and containers under; "": that of root
	Runtime            string            `toml:"runtime"`             // auto, or the path or name of an OCI runtime
	Shim               string            `toml:"shim"`                // path of brig-shim; "": beside brigd, else in PATH
	LogLevel           string            `toml:"log-level"`           // debug, info, warn, error
	LogFormat          string            `toml:"log-format"`          // auto, text, json; auto: text on a terminal
	InsecureRegistries []string          `toml:"insecure-registries"` // host[:port] or CIDR, reached by plain http or without verifying
	RegistryTimeout    int               `toml:"registry-timeout"`    // seconds that a registry may send nothing, or less than 16 KiB, before it is asked again
	KeepPartial        int               `toml:"keep-partial"`        // hours that an unfinished download is kept for a later pull
	Platforms          []string          `toml:"platforms"`           // os/arch[/variant], best first, of images that nobody asks a platform for; none: the host's
	LogDriver          string            `toml:"log-driver"`          // of containers whose request names none: json-file, local, syslog, none
	LogOpts            map[string]string `toml:"log-opts"`            // options of containers with that driver, unless their request has others
	FreeBSDNetwork     string            `toml:"freebsd-network"`     // on FreeBSD, containers' network stacks: auto, vnet (their own), shared (addresses of the host's)
	Metadata           string            `toml:"metadata"`            // on, off: whether containers can ask for their metadata
	MetadataUser       string            `toml:"metadata-user"`       // that brig-mds runs as: a name or UID[:GID]; "brig-mds" may be missing on the host
	UnsignedACIs       string            `toml:"unsigned-acis"`       // which ACIs may lack a signature: none, files (those that a client sends), all
	DevfsRuleset       int               `toml:"devfs-ruleset"`       // number of the devfs(8) ruleset that brig makes for its jails; FreeBSD alone
	LoadModules        bool              `toml:"load-modules"`        // load kernel modules that are missing, or only name them; FreeBSD alone
}

// DefaultPath is the file that brigd reads, if it is there, when no other one is named. goos is a GOOS.
func DefaultPath(goos string) string {
	if goos == "freebsd" {
		return "/usr/local/etc/brig.conf"
	}
	return "/etc/brig/brig.conf"
}

// Default returns the configuration of a brigd without file and flags.
func Default() Config {
	return Config{
		Root: "/var/lib/brig", Hosts: []string{"unix:///var/run/brig.sock"}, Group: "brig",
		Storage: "auto", Runtime: "auto", LogLevel: "info", LogFormat: "auto", UnsignedACIs: "none", FreeBSDNetwork: "auto", LogDriver: logopts.JSONFile,
		RegistryTimeout: 30, KeepPartial: 24, DevfsRuleset: 2718, LoadModules: true,
		Metadata: "on", MetadataUser: "brig-mds",
	}
}

// Load returns the defaults overlaid with the file's settings. A key that brigd doesn't know is an error that names it.
func Load(path string) (Config, error) {
	c := Default()
	b, err := os.ReadFile(path)
	if err != nil {
		return c, fmt.Errorf("read configuration: %w", err)
	}
	d := toml.NewDecoder(bytes.NewReader(b)).DisallowUnknownFields()
	if err := d.Decode(&c); err != nil {
		var strict *toml.StrictMissingError
		if errors.As(err, &strict) {
			return c, fmt.Errorf("configuration %s: unknown key:\n%s", path, strict.String())
		}
		return c, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Validate makes Root absolute and says all that is wrong at once.
func (c *Config) Validate() error {
	var errs []error
	bad := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	root, err := filepath.Abs(c.Root)
	switch {
	case c.Root == "" || err != nil:
		bad("root: %q is not a directory's path", c.Root)
	case len(root) > maxRoot:
		bad("root: %s has %d bytes; a socket beneath it allows no more than %d", root, len(root), maxRoot)
	}
	c.Root = root
	if len(c.Hosts) == 0 {
		bad("hosts: at least one is needed")
	}
	for _, h := range c.Hosts {
		u, err := url.Parse(h)
		if err != nil || (u.Scheme != "unix" || !filepath.IsAbs(u.Path)) && (u.Scheme != "tcp" || u.Host == "") {
			bad("hosts: %q is neither unix:///path nor tcp://address:port", h)
		}
	}
	if c.TLSVerify && (c.TLSCACert == "" || c.TLSCert == "" || c.TLSKey == "") {
		bad("tlsverify: needs tlscacert, tlscert and tlskey")
	}
	if !c.TLSVerify && (c.TLSCACert != "" || c.TLSCert != "" || c.TLSKey != "") {
		bad("tlscacert, tlscert, tlskey: have no meaning without tlsverify")
	}
	if c.MetricsAddr != "" {
		_, port, err := net.SplitHostPort(c.MetricsAddr)
		if n, perr := strconv.ParseUint(port, 10, 16); err != nil || perr != nil || n == 0 {
			bad("metrics-addr: %q is not host:port", c.MetricsAddr)
		}
	}
	oneOf := func(key, value string, allowed ...string) {
		if !slices.Contains(allowed, value) {
			bad("%s: %q is none of %s", key, value, strings.Join(allowed, ", "))
		}
	}
	oneOf("storage", c.Storage, "auto", "zfs", "overlay", "copy")
	oneOf("unsigned-acis", c.UnsignedACIs, "none", "files", "all")
	oneOf("freebsd-network", c.FreeBSDNetwork, "auto", "vnet", "shared")
	oneOf("metadata", c.Metadata, "on", "off")
	if c.MetadataUser == "" || c.MetadataUser == "root" || strings.HasPrefix(c.MetadataUser, "0") {
		bad("metadata-user: %q is not a user who isn't root", c.MetadataUser)
	}
	oneOf("log-level", c.LogLevel, "debug", "info", "warn", "error")
	oneOf("log-format", c.LogFormat, "auto", "text", "json")
	for _, p := range c.Platforms {
		if _, err := brig.ReadPlatform(p, brig.Platform{}); err != nil || !strings.Contains(p, "/") {
			bad("platforms: %q is not os/arch[/variant]", p)
		}
	}
	if err := logopts.Validate(c.DefaultLog()); err != nil {
		bad("log-driver, log-opts: %w", err)
	}
	if c.RegistryTimeout < 1 || c.RegistryTimeout > 3600 {
		bad("registry-timeout: %d is not between 1 and 3600 seconds", c.RegistryTimeout)
	}
	if c.KeepPartial < 1 || c.KeepPartial > 24*365 {
		bad("keep-partial: %d is not between 1 and 8760 hours", c.KeepPartial)
	}
	if c.DevfsRuleset <= lastSystemRuleset || c.DevfsRuleset > math.MaxUint16 {
		bad("devfs-ruleset: %d is not between %d and %d: 0 hides nothing, and the system itself has those after it", c.DevfsRuleset, lastSystemRuleset+1, math.MaxUint16)
	}
	if c.ZFSParent != "" && c.Storage != "auto" && c.Storage != "zfs" {
		bad("zfs-parent: has no meaning with storage %q", c.Storage)
	}
	return errors.Join(errs...)
}

// DefaultLog is the log of a container whose request says nothing of it.
func (c *Config) DefaultLog() brig.LogConfig {
	return brig.LogConfig{Driver: c.LogDriver, Options: c.LogOpts}
}

// WantedPlatforms returns Platforms as Validate has seen them; if there are none, what a host of that os and arch runs by itself.
func (c *Config) WantedPlatforms(os, arch string) []brig.Platform {
	var out []brig.Platform
	for _, p := range c.Platforms {
		out = append(out, brig.ParsePlatform(p).Normal())
	}
	if len(out) == 0 {
		return brig.DefaultPlatforms(os, arch)
	}
	return out
}

// Level returns LogLevel as slog has it; Validate has seen that it is one.
func (c *Config) Level() slog.Level {
	var l slog.Level
	_ = l.UnmarshalText([]byte(c.LogLevel)) // Validate allows only names that it knows
	return l
}
