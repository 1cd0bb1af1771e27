package metadata

import (
	"os/user"
	"strconv"
	"strings"

	"github.com/brigd/brig/internal/errs"
)

// DefaultUser is whom brig-mds runs as where the host has such a user.
const DefaultUser = "brig-mds"

// firstFree is where the search for a number begins that no user and no group of the host has, where there is no DefaultUser: below
// those that systemd gives out by itself (61184), and in reach of a user namespace of 65,536.
const firstFree = 61104

// owner finds the user and group that brig-mds runs as: DefaultUser, or numbers that nobody has; another user must be there.
func owner(name string) (uid, gid int, err error) {
	if u, g, ok := strings.Cut(name, ":"); ok || isNumber(u) {
		if !ok {
			g = u
		}
		uid, err = strconv.Atoi(u)
		if err == nil {
			gid, err = strconv.Atoi(g)
		}
		if err != nil || uid <= 0 || gid <= 0 {
			return 0, 0, errs.New(errs.Invalid, "metadata-user: %q is not UID[:GID] of a user who isn't root", name)
		}
		return uid, gid, nil
	}
	u, err := user.Lookup(name)
	if err == nil {
		uid, gid, err = numbers(u)
		if err == nil && (uid == 0 || gid == 0) {
			err = errs.New(errs.Invalid, "metadata-user: %s is root", name)
		}
		return uid, gid, err
	}
	if name != DefaultUser {
		return 0, 0, errs.New(errs.Invalid, "metadata-user: %w", err)
	}
	for n := firstFree; n > 60000; n-- {
		id := strconv.Itoa(n)
		_, byUser := user.LookupId(id)
		_, byGroup := user.LookupGroupId(id)
		if byUser != nil && byGroup != nil {
			return n, n, nil
		}
	}
	return 0, 0, errs.New(errs.Unavailable, "there is no user %s, and no number is free for one", DefaultUser)
}

func isNumber(s string) bool {
	_, err := strconv.Atoi(s)
	return err == nil
}

func numbers(u *user.User) (uid, gid int, err error) {
	if uid, err = strconv.Atoi(u.Uid); err == nil {
		gid, err = strconv.Atoi(u.Gid)
	}
	return uid, gid, errs.Wrap(err, "user %s", u.Username)
}
