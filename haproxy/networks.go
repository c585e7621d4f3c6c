package haproxy

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"
)

// markOf is an ACL that nothing uses. The running HAProxy has it as long as its networks are those of acls: with thousands of
// ports it takes long to ask for all of them.
func markOf(acls []acl) acl {
	sum := sha256.New()
	for _, a := range acls {
		_, _ = io.WriteString(sum, a.String()+"\n")
	}
	return acl{Name: "networks", Number: markNumber, Networks: []string{hex.EncodeToString(sum.Sum(nil)[:8])}}
}

// convergeNetworks has the running HAProxy let those in whom acls name. Whether it does already, the mark tells; all of them looks at
// all networks, which finds what somebody else has changed.
func (e *Engine) convergeNetworks(ctx context.Context, acls []acl, all bool) error {
	if len(acls) == 0 {
		return nil
	}
	mark := markOf(acls)
	look := []acl{mark}
	if all {
		look = append(look, acls...)
	}
	now, err := e.networks(ctx, look)
	if err != nil || len(networkCommands(look, now)) == 0 {
		return err
	}
	// Without any mark in between: whoever is interrupted leaves none that is not true.
	for _, next := range [][]acl{{{Name: mark.Name, Number: mark.Number}}, acls, {mark}} {
		if err := e.setNetworks(ctx, next); err != nil {
			return err
		}
	}
	return nil
}

// setNetworks makes the networks of the running HAProxy those of acls, and reads back that they are.
func (e *Engine) setNetworks(ctx context.Context, acls []acl) error {
	return e.steps(ctx, "HAProxy lets those in that may connect", func() ([]string, error) {
		now, err := e.networks(ctx, acls)
		if err != nil {
			return nil, err
		}
		acls = slices.DeleteFunc(slices.Clone(acls), func(a acl) bool { return len(networkCommands([]acl{a}, now)) == 0 })
		return networkCommands(acls, now), nil
	})
}

// aclsAtOnce is how many ACLs are asked for in one exchange, so that the line stays below maxLine.
const aclsAtOnce = 400

// networks asks the running HAProxy for the networks of ACLs, by their number.
func (e *Engine) networks(ctx context.Context, acls []acl) (map[int][]string, error) {
	networks := make(map[int][]string, len(acls))
	for some := range slices.Chunk(acls, aclsAtOnce) {
		// An answer ends with an empty line, and is nothing more where the ACL is empty. What is known not to be empty comes first
		// and last, since blanks at the ends get lost.
		commands := "show info"
		for _, a := range some {
			commands += fmt.Sprintf(";show acl #%d", a.Number)
		}
		text, err := e.command(ctx, commands+";show info")
		if err != nil {
			return nil, err
		}
		answers := [][]string{nil}
		for line := range strings.SplitSeq(text, "\n") {
			if line == "" {
				answers = append(answers, nil)
				continue
			}
			answers[len(answers)-1] = append(answers[len(answers)-1], line)
		}
		if len(answers) != len(some)+2 {
			return nil, fmt.Errorf("HAProxy did not answer in full on %s: %d answers to %d questions", e.cfg.StatsSocket, len(answers), len(some)+2)
		}
		for i, a := range some {
			for _, line := range answers[i+1] {
				// "0x55ea2a09d450 10.0.0.0/8"
				address, network, found := strings.Cut(line, " ")
				if !found || !strings.HasPrefix(address, "0x") {
					return nil, fmt.Errorf("HAProxy's answer on %s to ACL #%d: %q", e.cfg.StatsSocket, a.Number, line)
				}
				networks[a.Number] = append(networks[a.Number], network)
			}
		}
	}
	return networks, nil
}

// networkCommands are the next step from the networks that the running HAProxy has to those of acls, none when there is nothing
// left to do. New ones come before old ones go, so that nobody is closed in between who may connect before and after.
func networkCommands(acls []acl, now map[int][]string) []string {
	var add, del []string
	for _, a := range acls {
		for _, network := range a.Networks {
			if !slices.Contains(now[a.Number], network) {
				add = append(add, fmt.Sprintf("add acl #%d %s", a.Number, network))
			}
		}
		for _, network := range now[a.Number] {
			if !slices.Contains(a.Networks, network) {
				del = append(del, fmt.Sprintf("del acl #%d %s", a.Number, network))
			}
		}
	}
	if len(add) > 0 {
		return add
	}
	return del
}
