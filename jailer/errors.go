package jailer

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/shim"
)

// startError turns a failed start into the words that Docker's clients know. verb is create or exec, args0 the program asked for.
// What the container asked for and can't have is Invalid, as dockerd answers 400; other failures keep their kind.
func startError(verb, args0 string, err error) error {
	var f *shimFailure
	if !errors.As(err, &f) || f.kind != shim.FailRuntime {
		return err
	}
	prefix := "failed to create shim task: OCI runtime create failed: unable to start container process: "
	if verb == "exec" {
		prefix = "OCI runtime exec failed: exec failed: unable to start container process: "
	}
	return errs.New(errs.Invalid, "%s%s: unknown", prefix, runtimeWords(args0, f.text))
}

// runtimeWords returns the last error of an OCI runtime's JSON log, about the program args0, in runc's words. crun's come from its
// libcrun (linux.c, utils.c); runc's own stay as they are but for the prefixes that it puts in front.
func runtimeWords(args0, log string) string {
	msg := lastMessage(log)
	for _, p := range []string{"runc run failed: ", "runc create failed: ", "exec failed: ", "unable to start container process: "} {
		msg = strings.TrimPrefix(msg, p)
	}
	if strings.HasPrefix(msg, "exec: ") {
		return strings.Replace(msg, "is a directory", "is a directory: permission denied", 1)
	}
	low := strings.ToLower(msg)
	q := fmt.Sprintf("exec: %q", args0)
	aboutExec := strings.Contains(low, "executable") || strings.HasPrefix(low, "exec ") || strings.Contains(low, "exec container process")
	switch {
	case !aboutExec:
		return lowerErrno(msg)
	case strings.Contains(low, "not found in $path") || strings.Contains(low, "no such file"):
		if strings.Contains(args0, "/") {
			return q + ": stat " + args0 + ": no such file or directory"
		}
		return q + ": executable file not found in $PATH"
	case strings.Contains(low, "is a directory"):
		return q + ": is a directory: permission denied"
	case strings.Contains(low, "permission denied"), strings.Contains(low, "operation not permitted"):
		return q + ": permission denied"
	case strings.Contains(low, "exec format error"):
		return "exec " + args0 + ": exec format error"
	}
	return msg
}

// lowerErrno writes a strerror(3) text at the end as Go does, which is what clients look for.
func lowerErrno(msg string) string {
	i := strings.LastIndex(msg, ": ")
	if i < 0 || i+2 >= len(msg) {
		return msg
	}
	return msg[:i+2] + strings.ToLower(msg[i+2:i+3]) + msg[i+3:]
}

// lastMessage finds the last error in a log of JSON lines; a log of something else is returned as it is.
func lastMessage(log string) string {
	last := ""
	for line := range strings.Lines(log) {
		var m struct{ Level, Msg string }
		if json.Unmarshal([]byte(line), &m) == nil && (m.Level == "error" || m.Level == "fatal") && m.Msg != "" {
			last = m.Msg
		}
	}
	if last == "" {
		return printable(log)
	}
	return last
}

// maxWords bounds what is passed on of a log that isn't as it should be, in bytes.
const maxWords = 1 << 10

// printable is the end of a text, without what a terminal would take for more than text.
func printable(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsPrint(r) && r != unicode.ReplacementChar || r == '\n' {
			return r
		}
		return -1
	}, text)
	text = strings.TrimSpace(text)
	return strings.ToValidUTF8(text[max(0, len(text)-maxWords):], "")
}

// shimFailure is what a shim, or the OCI runtime behind it, said.
type shimFailure struct{ kind, text string }

// Error returns the text as it came.
func (e *shimFailure) Error() string { return e.text }
