package ocispec

import (
	"io"
	"slices"
	"strings"

	"github.com/brigd/brig/internal/errs"
	"github.com/moby/sys/user"
	"github.com/opencontainers/runtime-spec/specs-go"
)

// User is who a process runs as.
type User struct {
	UID, GID uint32
	Groups   []uint32 // the primary one first
	Home     string   // "/" if passwd doesn't say
}

// Spec returns u in the configuration's words.
func (u User) Spec() specs.User {
	return specs.User{UID: u.UID, GID: u.GID, AdditionalGids: u.Groups}
}

// FindUser looks up name ("", a name or number, optionally :group) and the groups to add in the container's own passwd and group files;
// nil stands for a file that is missing. Errors are Invalid, in Docker's words.
func FindUser(name string, add []string, passwd, group io.ReadSeeker) (User, error) {
	var pr, gr io.Reader // a nil ReadSeeker must not become a Reader that is not nil
	if passwd != nil {
		pr = passwd
	}
	if group != nil {
		gr = group
	}
	e, err := user.GetExecUser(name, &user.ExecUser{Home: "/"}, pr, gr)
	if err != nil {
		return User{}, errs.As(errs.Invalid, err)
	}
	u := User{UID: uint32(e.Uid), GID: uint32(e.Gid), Groups: []uint32{uint32(e.Gid)}, Home: e.Home}
	extra := e.Sgids
	if len(add) > 0 {
		if gr != nil {
			if _, err = group.Seek(0, io.SeekStart); err != nil {
				return User{}, err
			}
		} else {
			gr = strings.NewReader("")
		}
		more, err := user.GetAdditionalGroups(add, gr)
		if err != nil {
			return User{}, errs.As(errs.Invalid, err)
		}
		slices.Sort(more) // they come in no order
		extra = append(extra, more...)
	}
	for _, g := range extra {
		if !slices.Contains(u.Groups, uint32(g)) {
			u.Groups = append(u.Groups, uint32(g))
		}
	}
	return u, nil
}
