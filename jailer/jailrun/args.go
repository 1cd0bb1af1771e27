package jailrun

import (
	"encoding/json"
	"errors"
	"strings"

	"github.com/brigd/brig/jailer/jailspec"
)

// BundleName is the bundle's file in a run directory.
const BundleName = "bundle.json"

// Options are a command line: VERB --KEY VALUE … NAME.
type Options struct {
	Verb string // run: make the jail of the bundle in the current directory, and execute its main process. exec: a further process.
	// enter, prepare: what run and exec have a child do
	Name    string // the jail's full name
	Log     string // file for what went wrong, a line of JSON as OCI runtimes write it
	PidFile string // file for the pid of the process
	Console string // Unix socket that a terminal's master is sent to; "": no terminal
	Process string // exec: file with a jailspec.Process
}

// Args is the command line that Parse reads back.
func (o Options) Args() []string {
	a := []string{o.Verb, "--log", o.Log, "--pid-file", o.PidFile}
	if o.Console != "" {
		a = append(a, "--console-socket", o.Console)
	}
	if o.Process != "" {
		a = append(a, "--process", o.Process)
	}
	return append(a, o.Name)
}

// Parse reads a command line without the program's name.
func Parse(args []string) (o Options, err error) {
	if len(args) < 2 || args[0] != "run" && args[0] != "exec" && args[0] != "enter" && args[0] != "prepare" {
		return o, errors.New("brig-jail is started by brig-shim, not by hand")
	}
	o.Verb, o.Name = args[0], args[len(args)-1]
	for rest := args[1 : len(args)-1]; len(rest) > 0; rest = rest[2:] {
		to := map[string]*string{"--log": &o.Log, "--pid-file": &o.PidFile, "--console-socket": &o.Console, "--process": &o.Process}[rest[0]]
		if to == nil || len(rest) == 1 {
			return o, errors.New("unknown option " + rest[0])
		}
		*to = rest[1]
	}
	if o.PidFile == "" || o.Verb == "exec" && o.Process == "" || strings.HasPrefix(o.Name, "-") {
		return o, errors.New("an option is missing")
	}
	return o, nil
}

// logLine is what is written to the log of a failure.
func logLine(err error) []byte {
	b, _ := json.Marshal(map[string]string{"level": "error", "msg": err.Error()}) // strings alone
	return append(b, '\n')
}

// candidates lists where a program may be, as execvp(3) would look: by the PATH of its own environment.
func candidates(p *jailspec.Process) []string {
	name := p.Args[0]
	if strings.Contains(name, "/") {
		return []string{name}
	}
	path := ""
	for _, kv := range p.Env {
		if v, is := strings.CutPrefix(kv, "PATH="); is {
			path = v
		}
	}
	var out []string
	for _, dir := range strings.Split(path, ":") {
		if dir == "" {
			dir = "."
		}
		out = append(out, strings.TrimSuffix(dir, "/")+"/"+name)
	}
	return out
}
