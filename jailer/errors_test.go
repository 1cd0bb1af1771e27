package jailer

import (
	"errors"
	"testing"

	"github.com/brigd/brig/internal/errs"
	"github.com/brigd/brig/jailer/shim"
)

func TestRuntimeWords(t *testing.T) {
	line := func(msg string) string { return `{"msg":"` + msg + `","level":"error","time":"x"}` + "\n" }
	for _, c := range []struct{ args0, log, want string }{
		{"nosuch", line("executable file `nosuch` not found in $PATH: No such file or directory"), `exec: "nosuch": executable file not found in $PATH`},
		{"/nosuch", line("executable file `/nosuch` not found in $PATH: No such file or directory"), `exec: "/nosuch": stat /nosuch: no such file or directory`},
		{"/etc", line("open executable: Operation not permitted"), `exec: "/etc": permission denied`},
		{"/f", line("open executable: Permission denied"), `exec: "/f": permission denied`},
		{"/f", line("exec container process `/f`: Exec format error"), "exec /f: exec format error"},
		{"x", line(`runc run failed: unable to start container process: exec: \"x\": executable file not found in $PATH`), `exec: "x": executable file not found in $PATH`},
		{"x", line(`runc run failed: unable to start container process: exec: \"/etc\": is a directory`), `exec: "/etc": is a directory: permission denied`},
		{"x", line("first") + line("chdir: No such file or directory"), "chdir: no such file or directory"},
		{"x", "plain words\n", "plain words"},
	} {
		if got := runtimeWords(c.args0, c.log); got != c.want {
			t.Errorf("%s:\n got %s\nwant %s", c.log, got, c.want)
		}
	}
}

func TestStartErrorKind(t *testing.T) {
	err := startError("exec", "x", &shimFailure{shim.FailRuntime, "boom"})
	if !errs.Is(err, errs.Invalid) || err.Error() != "OCI runtime exec failed: exec failed: unable to start container process: boom: unknown" {
		t.Error(err)
	}
	other := errors.New("other")
	if startError("create", "x", other) != other {
		t.Error("another error must stay as it is")
	}
}
