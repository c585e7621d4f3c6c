package rig

import "slices"

// Option changes how one command goes.
type Option func(*options)

type options struct {
	before     []func(Call) bool
	after      []func(Call, Result)
	env        []string
	failChecks []string            // dynos
	dynoEnv    map[string][]string // dyno -> variables
	skipDeploy bool
}

// Before calls f before each trigger. When f returns false the command's process dies there, as when the user's ssh
// connection drops and Dokku is killed: the command ends with ErrDied.
func Before(f func(Call) bool) Option {
	return func(o *options) { o.before = append(o.before, f) }
}

// After calls f when a trigger has ended.
func After(f func(Call, Result)) Option {
	return func(o *options) { o.after = append(o.after, f) }
}

// DieBefore lets the command's process die before the first call of that trigger.
func DieBefore(trigger string) Option {
	return Before(func(c Call) bool { return c.Name != trigger })
}

// FailCheck lets Dokku's own check fail for the new container of that dyno ("web.2"), after the plugin's.
func FailCheck(dyno string) Option {
	return func(o *options) { o.failChecks = append(o.failChecks, dyno) }
}

// ContainerEnv gives the new container of that dyno more variables ("NOLISTEN=1").
func ContainerEnv(dyno string, env ...string) Option {
	return func(o *options) {
		if o.dynoEnv == nil {
			o.dynoEnv = make(map[string][]string)
		}
		o.dynoEnv[dyno] = append(o.dynoEnv[dyno], env...)
	}
}

// Env adds variables to the environment of the command's calls ("DOKKU_QUIET_OUTPUT=1").
func Env(env ...string) Option {
	return func(o *options) { o.env = append(o.env, env...) }
}

// SkipDeploy is --skip-deploy of apps:clone and apps:rename.
func SkipDeploy() Option {
	return func(o *options) { o.skipDeploy = true }
}

func (o *options) failCheck(dyno string) bool { return slices.Contains(o.failChecks, dyno) }
