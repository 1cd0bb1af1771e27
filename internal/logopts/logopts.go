// Package logopts knows Docker's log drivers: which options each takes, and what they ask of the process that writes a container's log.
package logopts

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/docker/go-units"

	"github.com/brigd/brig/internal/brig"
	"github.com/brigd/brig/internal/errs"
)

// The drivers that brig has.
const (
	JSONFile = "json-file"
	Local    = "local"
	Syslog   = "syslog"
	None     = "none"
)

// Drivers is what docker info lists: all but none, as dockerd does.
func Drivers() []string { return []string{JSONFile, Local, Syslog} }

// options are the keys that each driver takes beside those that all take.
var options = map[string][]string{
	JSONFile: {"max-file", "max-size", "compress", "labels", "labels-regex", "env", "env-regex", "tag"},
	Local:    {"max-file", "max-size", "compress"},
	Syslog: {"env", "env-regex", "labels", "labels-regex", "syslog-address", "syslog-facility", "syslog-format", "tag",
		"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"},
}

// common are the options of all drivers: the buffer before the driver, and the copy that docker logs reads where a driver can't be read.
var common = []string{"mode", "max-buffer-size", "cache-disabled", "cache-max-size", "cache-max-file", "cache-compress"}

// elsewhere are dockerd's drivers that brig doesn't have.
var elsewhere = []string{"journald", "gelf", "fluentd", "awslogs", "splunk", "etwlogs", "gcplogs"}

// Merge completes what a request asks for with the daemon's default: its driver, and its options where the driver is the same.
func Merge(asked, def brig.LogConfig) brig.LogConfig {
	if def.Driver == "" {
		def.Driver = JSONFile
	}
	out := brig.LogConfig{Driver: asked.Driver, Options: map[string]string{}}
	if out.Driver == "" {
		out.Driver = def.Driver
	}
	if out.Driver == def.Driver {
		maps.Copy(out.Options, def.Options)
	}
	maps.Copy(out.Options, asked.Options)
	return out
}

// Validate checks a driver and its options. Errors are Invalid or NotImplemented, in dockerd's words; it looks whether a syslog's socket is there.
func Validate(c brig.LogConfig) error {
	if c.Driver == None {
		return nil
	}
	if err := validateMode(c.Options); err != nil {
		return err
	}
	keys, ok := options[c.Driver]
	switch {
	case slices.Contains(elsewhere, c.Driver):
		return errs.New(errs.NotImplemented, "log driver %q is not supported by brig: use json-file, local, syslog or none", c.Driver)
	case !ok:
		return invalid("logger: no log driver named '%s' is registered", c.Driver)
	}
	for _, key := range slices.Sorted(maps.Keys(c.Options)) {
		switch {
		case slices.Contains(keys, key) || slices.Contains(common, key):
		case c.Driver == Local:
			return invalid("unknown log opt '%s' for log-driver %s", key, c.Driver)
		default:
			return invalid("unknown log opt '%s' for %s log driver", key, c.Driver)
		}
	}
	_, err := NewSink(c, Container{})
	return err
}

// Warnings says which options have no effect.
func Warnings(c brig.LogConfig) []string {
	if c.Options["mode"] == "non-blocking" && (c.Driver == JSONFile || c.Driver == Local) {
		return []string{"Log option mode=non-blocking has no effect with " + c.Driver + ": what can't be written to the file at once is lost, and the container goes on."}
	}
	return nil
}

func invalid(format string, args ...any) error { return errs.New(errs.Invalid, format, args...) }

func validateMode(o map[string]string) error {
	switch o["mode"] {
	case "", "blocking", "non-blocking":
	default:
		return invalid("logger: logging mode not supported: %s", o["mode"])
	}
	if s, ok := o["max-buffer-size"]; ok {
		if o["mode"] != "non-blocking" {
			return invalid("logger: max-buffer-size option is only supported with 'mode=non-blocking'")
		}
		if _, err := units.RAMInBytes(s); err != nil {
			return invalid("error parsing option max-buffer-size: %w", err)
		}
	}
	return nil
}

// NewSink says how a container's log is written. All its errors are Invalid, or NotImplemented for what brig's syslog can't do.
func NewSink(c brig.LogConfig, of Container) (s brig.LogSink, err error) {
	switch c.Driver {
	case None:
		return s, nil
	case "", JSONFile:
		if s, err = files(c.Options, "", brig.LogSink{MaxFiles: 1}); err != nil {
			return s, initFailed(err)
		}
		if s.Compress && (s.MaxFiles < 2 || s.MaxSize == 0) {
			return s, initFailed(fmt.Errorf("compress cannot be true when max-file is less than 2 or max-size is not set"))
		}
		s.Attrs, err = attributes(c.Options, of)
	case Local:
		if s, err = files(c.Options, "", brig.LogSink{MaxSize: 20e6, MaxFiles: 5, Compress: true}); err == nil && s.MaxFiles < 2 {
			s.Compress = false
		}
	case Syslog:
		if s, err = files(c.Options, "cache-", brig.LogSink{MaxSize: 20e6, MaxFiles: 5, Compress: true}); err == nil && s.MaxFiles < 2 {
			s.Compress = false
		}
		if err == nil {
			s.Syslog, err = newSyslog(c.Options, of)
		}
	}
	return s, initFailed(err)
}

// initFailed says it as dockerd does when it starts such a container. brig refuses to create it.
func initFailed(err error) error {
	if err == nil || errs.KindOf(err) != errs.Internal {
		return err
	}
	return invalid("failed to initialize logging driver: %w", err)
}

// Readable reports whether docker logs can read the log.
func Readable(c brig.LogConfig) bool {
	switch c.Driver {
	case None:
		return false
	case Syslog:
		off, _ := strconv.ParseBool(c.Options["cache-disabled"])
		return !off
	}
	return true
}

// files reads the options of log files, whose names begin with prefix, over the driver's defaults.
func files(o map[string]string, prefix string, s brig.LogSink) (brig.LogSink, error) {
	if v, ok := o[prefix+"max-size"]; ok {
		n, err := units.FromHumanSize(v)
		if err != nil {
			return s, err
		}
		if n <= 0 {
			return s, fmt.Errorf("max-size must be a positive number")
		}
		s.MaxSize = n
	}
	if v, ok := o[prefix+"max-file"]; ok {
		n, err := strconv.Atoi(v)
		if err != nil {
			return s, err
		}
		if n < 1 {
			return s, fmt.Errorf("max-file cannot be less than 1")
		}
		s.MaxFiles = n
	}
	if v, ok := o[prefix+"compress"]; ok {
		on, err := strconv.ParseBool(v)
		if err != nil {
			return s, err
		}
		s.Compress = on
	}
	return s, nil
}

// facilities are syslog's, RFC 5424 table 1, by the names of syslog.h.
var facilities = []string{"kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp",
	"", "", "", "", "local0", "local1", "local2", "local3", "local4", "local5", "local6", "local7"}

func newSyslog(o map[string]string, of Container) (*brig.Syslog, error) {
	network, address, err := syslogAddress(o["syslog-address"])
	if err != nil {
		return nil, err
	}
	out := &brig.Syslog{Network: network, Address: address, Facility: 3, Format: o["syslog-format"]}
	if f := o["syslog-facility"]; f != "" {
		if out.Facility = slices.Index(facilities, f); out.Facility < 0 {
			if out.Facility, err = strconv.Atoi(f); err != nil || out.Facility < 0 || out.Facility > 23 {
				return nil, invalid("invalid syslog facility")
			}
		}
	}
	switch out.Format {
	case "", "rfc3164", "rfc5424", "rfc5424micro":
	default:
		return nil, invalid("Invalid syslog format")
	}
	if out.Tag, err = of.tag(o["tag"], "{{.ID}}"); err != nil {
		return nil, err
	}
	out.Hostname, _ = os.Hostname()
	return out, nil
}

// syslogAddress takes apart an address as dockerd has it.
func syslogAddress(s string) (network, address string, err error) {
	if s == "" {
		return "", "", nil // the host's own
	}
	u, err := url.Parse(s)
	if err != nil {
		return "", "", invalid("%w", err)
	}
	switch u.Scheme {
	case "unix", "unixgram":
		if _, err := os.Stat(u.Path); err != nil {
			return "", "", invalid("%w", err)
		}
		return u.Scheme, u.Path, nil
	case "tcp+tls":
		return "", "", errs.New(errs.NotImplemented, "syslog over TLS is not supported by brig: use a relay on this host")
	case "tcp", "udp":
	case "":
		return "", "", invalid("syslog-address should be in form proto://address, got %v", s)
	default:
		return "", "", invalid("unsupported scheme: '%s'", u.Scheme)
	}
	if _, _, err := net.SplitHostPort(u.Host); err == nil {
		return u.Scheme, u.Host, nil
	} else if !strings.Contains(err.Error(), "missing port in address") {
		return "", "", invalid("%w", err)
	}
	return u.Scheme, net.JoinHostPort(strings.Trim(u.Host, "[]"), "514"), nil
}
