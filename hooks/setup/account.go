package setup

import (
	"context"
	"errors"
	"fmt"
	"os/user"
	"slices"
	"strconv"
)

// createAccount makes the system user and group of HAProxy, and Dokku's user a member of the group.
func (s *setup) createAccount(ctx context.Context) error {
	if _, err := user.Lookup(Account); errors.As(err, new(user.UnknownUserError)) {
		err := run(ctx, "useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent",
			"--shell", "/usr/sbin/nologin", Account)
		if err != nil {
			return fmt.Errorf("create the system user %s: %w", Account, err)
		}
		s.say("Created the system user %s", Account)
	} else if err != nil {
		return fmt.Errorf("look up user %s: %w", Account, err)
	}

	member, err := s.isMember()
	if err != nil || member {
		return err
	}
	if err := run(ctx, "gpasswd", "--add", s.User, Account); err != nil {
		return fmt.Errorf("add user %s to the group %s: %w", s.User, Account, err)
	}
	s.say("Added user %s to the group %s", s.User, Account)
	return nil
}

// isMember tells whether Dokku's user is in HAProxy's group.
func (s *setup) isMember() (bool, error) {
	group, err := user.LookupGroup(Account)
	if err != nil {
		return false, fmt.Errorf("look up group %s: %w", Account, err)
	}
	dokku, err := user.Lookup(s.User)
	if err != nil {
		return false, fmt.Errorf("user %s: %w: is Dokku installed?", s.User, err)
	}
	groups, err := dokku.GroupIds()
	if err != nil {
		return false, fmt.Errorf("groups of user %s: %w", s.User, err)
	}
	return slices.Contains(groups, group.Gid), nil
}

func (s *setup) removeAccount(ctx context.Context) error {
	if _, err := user.LookupGroup(Account); err == nil {
		// userdel keeps a group that has a member.
		if member, err := s.isMember(); err == nil && member {
			if err := run(ctx, "gpasswd", "--delete", s.User, Account); err != nil {
				return err
			}
		}
	}
	if _, err := user.Lookup(Account); err == nil {
		if err := run(ctx, "userdel", Account); err != nil {
			return fmt.Errorf("remove the system user %s: %w", Account, err)
		}
		s.say("Removed the system user %s", Account)
	}
	// userdel takes the group along or not, as /etc/login.defs says.
	if _, err := user.LookupGroup(Account); err == nil {
		if err := run(ctx, "groupdel", Account); err != nil {
			return fmt.Errorf("remove the group %s: %w", Account, err)
		}
	}
	return nil
}

// owner is a user and a group by their numbers.
type owner struct{ uid, gid int }

// owners returns the ids of Dokku's user with Dokku's group, and with HAProxy's group.
func (s *setup) owners() (dokku, shared owner, err error) {
	u, err := user.Lookup(s.User)
	if err != nil {
		return owner{}, owner{}, fmt.Errorf("user %s: %w: is Dokku installed?", s.User, err)
	}
	uid, _, err := ids(u)
	if err != nil {
		return owner{}, owner{}, err
	}
	group := func(name string) (int, error) {
		g, err := user.LookupGroup(name)
		if err != nil {
			return 0, fmt.Errorf("group %s: %w", name, err)
		}
		return strconv.Atoi(g.Gid)
	}
	own, err := group(s.Group)
	if err != nil {
		return owner{}, owner{}, err
	}
	haproxy, err := group(Account)
	if err != nil {
		return owner{}, owner{}, err
	}
	return owner{uid, own}, owner{uid, haproxy}, nil
}
