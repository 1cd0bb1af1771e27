package shim

import (
	"strconv"
	"strings"
	"time"
)

// Mode is the first argument of brig-shim.
const (
	ModeShim  = "shim"  // settings follow; the listening socket is descriptor 3, the run directory the current one
	ModeInit  = "init"  // "--" and a command follow: serve as process 1 of a container
	ModeProbe = "probe" // do nothing, to see whether an OCI runtime can start anything
)

// ListenFD is the descriptor of the listening socket.
const ListenFD = 3

// RuntimeFD is the descriptor of the OCI runtime's program, with Config.Sealed.
const RuntimeFD = 4

// Args is the command line of c's shim after the program's name. dir is there to be found by alone.
func (c Config) Args(dir string) []string {
	a := []string{ModeShim, "instance=" + c.Instance, "dir=" + dir, "id=" + c.ID, "log=" + c.LogPath, "hide=" + c.Hide, "oom=" + c.OOMFile}
	if c.Linger > 0 {
		a = append(a, "linger="+c.Linger.String())
	}
	if c.TTY {
		a = append(a, "tty=1")
	}
	if c.Sealed {
		a = append(a, "sealed=1")
	}
	if c.Stdin {
		a = append(a, "stdin=1")
	}
	if c.Sockets > 0 {
		a = append(a, "sockets="+strconv.Itoa(c.Sockets))
	}
	return a
}

// LogVariable names the environment variable that says how the log is written. It is none of the arguments: what labels and variables
// of the container go into each line is not for everybody who can list processes.
const LogVariable = "BRIG_LOG"

// Syslog is where output is sent to as syslog messages.
type Syslog struct {
	Network       string // unix, unixgram, tcp or udp; "": nowhere
	Address       string // a path, or an IP address and a port
	Facility      int
	Format        string // "", rfc3164, rfc5424, rfc5424micro
	Tag, Hostname string
}

// LogSettings is the value of LogVariable: lines of key=value.
func (c Config) LogSettings() string {
	line := func(key, value string) string { return key + "=" + strings.ReplaceAll(value, "\n", " ") + "\n" }
	return line("size", strconv.FormatInt(c.Log.MaxSize, 10)) + line("files", strconv.Itoa(c.Log.MaxFiles)) +
		line("compress", strconv.FormatBool(c.Log.Compress)) + line("attrs", c.Log.Attrs) +
		line("network", c.Syslog.Network) + line("address", c.Syslog.Address) + line("facility", strconv.Itoa(c.Syslog.Facility)) +
		line("format", c.Syslog.Format) + line("tag", c.Syslog.Tag) + line("hostname", c.Syslog.Hostname)
}

// ParseLogSettings is LogSettings's inverse: it fills in Log and Syslog. Unknown keys are passed over.
func (c *Config) ParseLogSettings(s string) {
	for line := range strings.SplitSeq(s, "\n") {
		key, value, _ := strings.Cut(line, "=")
		switch key { // numbers are as LogSettings wrote them
		case "size":
			c.Log.MaxSize, _ = strconv.ParseInt(value, 10, 64)
		case "files":
			c.Log.MaxFiles, _ = strconv.Atoi(value)
		case "compress":
			c.Log.Compress = value == "true"
		case "attrs":
			c.Log.Attrs = value
		case "network":
			c.Syslog.Network = value
		case "address":
			c.Syslog.Address = value
		case "facility":
			c.Syslog.Facility, _ = strconv.Atoi(value)
		case "format":
			c.Syslog.Format = value
		case "tag":
			c.Syslog.Tag = value
		case "hostname":
			c.Syslog.Hostname = value
		}
	}
}

// ParseArgs is Args's inverse, without ModeShim.
func ParseArgs(args []string) Config {
	var c Config
	for _, a := range args {
		key, value, _ := strings.Cut(a, "=")
		switch key {
		case "instance":
			c.Instance = value
		case "id":
			c.ID = value
		case "log":
			c.LogPath = value
		case "hide":
			c.Hide = value
		case "oom":
			c.OOMFile = value
		case "linger":
			c.Linger, _ = time.ParseDuration(value) // Args wrote it
		case "tty":
			c.TTY = true
		case "sealed":
			c.Sealed = true
		case "stdin":
			c.Stdin = true
		case "sockets":
			c.Sockets, _ = strconv.Atoi(value) // likewise
		}
	}
	return c
}

// InitName as the program's name means ModeInit.
const InitName = "docker-init"
