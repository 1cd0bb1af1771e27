package elfcheck

import (
	"fmt"
	"path"
	"slices"
	"strings"
)

// defaultPath is where a name is looked for if the image doesn't set PATH, as Docker has it.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// wrappers execute what follows them, mostly a shell's words or another program. What they are given is looked at as well.
var wrappers = []string{"env", "tini", "dumb-init", "docker-init", "catatonit", "gosu", "su-exec", "nice", "setpriv", "exec", "chroot", "stdbuf", "timeout"}

// entry finds what the image starts with: the names by which each program is started, by its own path.
func (j *judge) entry() (starts map[string][]string, reasons []Reason) {
	starts = map[string][]string{}
	line := slices.Concat(j.img.Entrypoint, j.img.Cmd)
	if len(line) == 0 {
		return starts, []Reason{{WillRun, "", "the image doesn't say what it starts: all its programs are judged alike"}}
	}
	reasons = j.start(starts, line[0], 0)
	if len(j.img.Entrypoint) == 0 || len(reasons) > 0 && reasons[0].Verdict == WillNot {
		return starts, append(reasons, j.wrapped(starts, line)...)
	}
	// An entrypoint is mostly a script that executes the command at last.
	if len(j.img.Cmd) > 0 && j.find(j.img.Cmd[0]) != "" {
		reasons = append(reasons, j.start(starts, j.img.Cmd[0], 0)...)
	}
	return starts, append(reasons, j.wrapped(starts, line)...)
}

// wrapped adds what a wrapper is told to execute, and what a shell's one command begins with.
func (j *judge) wrapped(starts map[string][]string, line []string) (reasons []Reason) {
	for i, word := range line[:len(line)-1] {
		base := path.Base(word)
		switch next := line[i+1]; {
		case slices.Contains(wrappers, base):
			for _, n := range line[i+1:] {
				if !strings.HasPrefix(n, "-") && !strings.Contains(n, "=") && j.find(n) != "" {
					reasons = append(reasons, j.start(starts, n, 0)...)
					break
				}
			}
		case word == "-c" && i > 0 && strings.HasSuffix(path.Base(line[i-1]), "sh"):
			for _, n := range strings.Fields(next) {
				if j.find(n) != "" && !slices.Contains(wrappers, path.Base(n)) {
					reasons = append(reasons, j.start(starts, n, 0)...)
					break
				}
				if !strings.Contains(n, "=") && !slices.Contains(wrappers, path.Base(n)) {
					break
				}
			}
		}
	}
	return reasons
}

// start adds the program that a word starts, and those that interpret it if it is a script.
func (j *judge) start(starts map[string][]string, word string, depth int) []Reason {
	at := j.find(word)
	if at == "" {
		return []Reason{{WillNot, word, "the image starts it, and it isn't there or can't be executed"}}
	}
	to, _, err := j.tree.resolve(at)
	if err != nil {
		return []Reason{{WillNot, word, err.Error()}}
	}
	to = j.tree.canonical(to)
	if j.tree.isELF(to[1:]) {
		if !slices.Contains(starts[to], at) {
			starts[to] = append(starts[to], at)
		}
		return nil
	}
	text, err := j.tree.text(at, 4096)
	if err != nil {
		return []Reason{{WillNot, word, err.Error()}}
	}
	first, _, _ := strings.Cut(text, "\n")
	first, script := strings.CutPrefix(first, "#!")
	f := strings.Fields(first)
	if !script || len(f) == 0 {
		return []Reason{{WillNot, word, "it is neither an ELF file nor a script with an interpreter"}}
	}
	if depth > 4 {
		return []Reason{{WillNot, word, "too many interpreters of interpreters"}}
	}
	out := []Reason{}
	if depth == 0 {
		out = append(out, Reason{WillRun, word, fmt.Sprintf("it is a script (%s): what it executes in turn isn't known", strings.Join(f, " "))})
	}
	out = append(out, j.start(starts, f[0], depth+1)...)
	if path.Base(f[0]) == "env" && len(f) > 1 && j.find(f[len(f)-1]) != "" {
		out = append(out, j.start(starts, f[len(f)-1], depth+1)...)
	}
	return out
}

// find looks a word up as execvp would; "" if it is nowhere, or not executable.
func (j *judge) find(word string) string {
	runs := func(at string) bool {
		_, info, err := j.tree.resolve(at)
		return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
	}
	if strings.Contains(word, "/") {
		at := word
		if !path.IsAbs(at) {
			at = path.Join("/", j.img.Dir, at)
		}
		if runs(at) {
			return at
		}
		return ""
	}
	dirs := defaultPath
	for _, e := range j.img.Env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			dirs = v
		}
	}
	for dir := range strings.SplitSeq(dirs, ":") {
		if at := path.Join("/", dir, word); runs(at) {
			return at
		}
	}
	return ""
}
