// Brigd is brig's daemon: it serves the Docker Engine API and runs images and containers beneath one root directory.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"os/signal"
	goruntime "runtime"
	"runtime/debug"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/brigd/brig/internal/config"
)

// version is set by the Makefile.
var version = "dev"

// gcPercent lets the heap grow to three times of what is live, some 15 MiB, before it is collected: with the usual 100 a fifth of
// the time of small requests is the collector's. The environment's GOGC has precedence.
const gcPercent = 200

func main() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(gcPercent)
	}
	ctx, stop := signal.NotifyContext(context.Background(), unix.SIGTERM, unix.SIGINT)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "brigd:", err)
		os.Exit(1)
	}
}

// command reads flags over the file over the defaults.
func command() *cobra.Command {
	file, flags := "", config.Default()
	cmd := &cobra.Command{
		Use:           "brigd",
		Short:         "Run Docker and App Containers as jails, behind the Docker Engine API",
		Version:       version,
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	f := cmd.Flags()
	f.StringVar(&file, "config", "", "read the configuration from `FILE`, brig.conf(5) (default: "+config.DefaultPath(goruntime.GOOS)+" if it is there; \"\": none)")
	f.StringVar(&flags.Root, "root", flags.Root, "keep everything in `DIR`")
	f.StringArrayVarP(&flags.Hosts, "host", "H", flags.Hosts, "serve at `unix://PATH` or tcp://ADDRESS:PORT; may be repeated")
	f.StringVarP(&flags.Group, "group", "G", flags.Group, "`GROUP` (name or number) that may use the socket")
	f.BoolVar(&flags.TLSVerify, "tlsverify", false, "use TLS on TCP, and take clients with a certificate of --tlscacert's alone")
	f.StringVar(&flags.TLSCACert, "tlscacert", "", "authorities of clients, a `FILE` in PEM")
	f.StringVar(&flags.TLSCert, "tlscert", "", "brigd's own certificate, a `FILE` in PEM")
	f.StringVar(&flags.TLSKey, "tlskey", "", "its key, a `FILE` in PEM")
	f.StringVar(&flags.MetricsAddr, "metrics-addr", "", "show metrics in Prometheus's format at http://`HOST:PORT`/metrics, to everybody who reaches it")
	f.StringVar(&flags.Storage, "storage", flags.Storage, "auto, zfs, overlay or copy")
	f.StringVar(&flags.ZFSParent, "zfs-parent", "", "`DATASET` to keep images and containers under")
	f.StringVar(&flags.Runtime, "runtime", flags.Runtime, "auto, or the path of an OCI runtime")
	f.StringVar(&flags.Shim, "shim", "", "path of brig-shim (default: beside brigd, else in ../libexec/brig from there, else in PATH)")
	f.StringVarP(&flags.LogLevel, "log-level", "l", flags.LogLevel, "debug, info, warn or error")
	f.StringVar(&flags.LogFormat, "log-format", flags.LogFormat, "auto, text or json")
	f.StringVar(&flags.LogDriver, "log-driver", flags.LogDriver, "log `DRIVER` of containers whose request names none: json-file, local, syslog or none")
	f.StringToStringVar(&flags.LogOpts, "log-opt", nil, "`KEY=VALUE` option of that log driver; may be repeated")
	f.StringSliceVar(&flags.InsecureRegistries, "insecure-registry", nil, "registry (host[:port] or CIDR) to reach by plain http or unverified; may be repeated")
	f.StringSliceVar(&flags.Platforms, "platform", nil, "`OS/ARCH[/VARIANT]` of images that nobody asks a platform for; may be repeated, the best first (default: the host's)")
	f.StringVar(&flags.FreeBSDNetwork, "freebsd-network", flags.FreeBSDNetwork, "on FreeBSD, containers' network stacks: auto, vnet or shared")
	f.StringVar(&flags.Metadata, "metadata", flags.Metadata, "whether containers can ask for their metadata: on or off")
	f.StringVar(&flags.MetadataUser, "metadata-user", flags.MetadataUser, "`USER` (name or UID[:GID]) that brig-mds runs as")
	f.StringVar(&flags.UnsignedACIs, "unsigned-acis", flags.UnsignedACIs, "import ACIs without a signature: none, files or all")
	f.IntVar(&flags.RegistryTimeout, "registry-timeout", flags.RegistryTimeout, "`SECONDS` that a registry may send nothing, or less than 16 KiB, before it is asked again")
	f.IntVar(&flags.KeepPartial, "keep-partial", flags.KeepPartial, "`HOURS` that an unfinished download is kept for a later pull")
	f.IntVar(&flags.DevfsRuleset, "devfs-ruleset", flags.DevfsRuleset, "`NUMBER` of brig's own devfs ruleset (FreeBSD)")
	f.BoolVar(&flags.LoadModules, "load-modules", flags.LoadModules, "load kernel modules that are missing (FreeBSD)")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		c, err := configured(file, cmd.Flags().Changed("config"), config.DefaultPath(goruntime.GOOS))
		if err != nil {
			return err
		}
		override(cmd, &c, &flags)
		if err := c.Validate(); err != nil {
			return err
		}
		return serve(cmd.Context(), c, logger(&c, os.Stderr))
	}
	return cmd
}

// configured reads the file that was named ("": none), or the usual one if there is one.
func configured(file string, named bool, usual string) (config.Config, error) {
	if !named {
		if _, err := os.Stat(usual); errors.Is(err, fs.ErrNotExist) {
			return config.Default(), nil
		}
		file = usual
	}
	if file == "" {
		return config.Default(), nil
	}
	return config.Load(file)
}

// override copies the settings whose flags were given.
func override(cmd *cobra.Command, c, flags *config.Config) {
	for name, set := range map[string]func(){
		"root":              func() { c.Root = flags.Root },
		"host":              func() { c.Hosts = flags.Hosts },
		"group":             func() { c.Group = flags.Group },
		"metrics-addr":      func() { c.MetricsAddr = flags.MetricsAddr },
		"storage":           func() { c.Storage = flags.Storage },
		"zfs-parent":        func() { c.ZFSParent = flags.ZFSParent },
		"runtime":           func() { c.Runtime = flags.Runtime },
		"shim":              func() { c.Shim = flags.Shim },
		"metadata":          func() { c.Metadata = flags.Metadata },
		"metadata-user":     func() { c.MetadataUser = flags.MetadataUser },
		"unsigned-acis":     func() { c.UnsignedACIs = flags.UnsignedACIs },
		"log-level":         func() { c.LogLevel = flags.LogLevel },
		"log-format":        func() { c.LogFormat = flags.LogFormat },
		"tlsverify":         func() { c.TLSVerify = flags.TLSVerify },
		"tlscacert":         func() { c.TLSCACert = flags.TLSCACert },
		"tlscert":           func() { c.TLSCert = flags.TLSCert },
		"tlskey":            func() { c.TLSKey = flags.TLSKey },
		"log-driver":        func() { c.LogDriver = flags.LogDriver },
		"log-opt":           func() { c.LogOpts = flags.LogOpts },
		"platform":          func() { c.Platforms = flags.Platforms },
		"freebsd-network":   func() { c.FreeBSDNetwork = flags.FreeBSDNetwork },
		"registry-timeout":  func() { c.RegistryTimeout = flags.RegistryTimeout },
		"keep-partial":      func() { c.KeepPartial = flags.KeepPartial },
		"devfs-ruleset":     func() { c.DevfsRuleset = flags.DevfsRuleset },
		"load-modules":      func() { c.LoadModules = flags.LoadModules },
		"insecure-registry": func() { c.InsecureRegistries = flags.InsecureRegistries },
	} {
		if cmd.Flags().Changed(name) {
			set()
		}
	}
}

// logger writes to w: text if that is a terminal, else JSON, unless the configuration says which.
func logger(c *config.Config, w *os.File) *slog.Logger {
	opts := &slog.HandlerOptions{Level: c.Level()}
	if c.LogFormat == "text" || c.LogFormat == "auto" && terminal(w) {
		return slog.New(slog.NewTextHandler(w, opts))
	}
	return slog.New(slog.NewJSONHandler(io.Writer(w), opts))
}

// terminal reports whether f is one: it has a window size.
func terminal(f *os.File) bool {
	_, err := unix.IoctlGetWinsize(int(f.Fd()), unix.TIOCGWINSZ)
	return err == nil
}

// commit returns the revision that this program was built from, and when; empty if the build did not say.
func commit() (revision, built string) {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return "", ""
	}
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			revision = s.Value
		case "vcs.time":
			built = s.Value
		}
	}
	return revision, built
}
