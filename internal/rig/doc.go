// Package rig is a Dokku host in a temporary folder: it calls the plugin's binary as Dokku does, with real containers in a
// real Docker and, on demand, the plugin's services.
//
// [New] makes a [Host] and [Host.Close] removes all that it made, after a failure too; containers and images carry a label
// of that host's own. What was left by a process that ended without closing its host, the next New removes.
//
// Between the two a host has one method for each command of Dokku's: [Host.Push] is a git push, [Host.Scale] is ps:scale,
// [Host.Command] a subcommand of the plugin. Each of them is one process of Dokku's: it has a DOKKU_PID of its own, and
// calls the triggers in Dokku's order, with Dokku's arguments, environment and standard input, through a link whose name is
// the trigger's. Between them it does what Dokku itself does to files and containers, and a trigger that fails has the
// consequences that it has there. An [Option] lets one command fail where a test wants it to, or die in the middle. With
// [Options.Supervise] the services come back when they are killed, as under systemd, and [Host.PowerOff] ends them all.
//
// The order and the consequences are those of Dokku 0.38.27, read in its source: plugins/git/functions for a push,
// plugins/scheduler-docker-local for a deploy, plugins/apps, plugins/ps and plugins/proxy for the rest. Triggers run plugin
// by plugin in the order of their names, so one that a core plugin calls from within a trigger comes before or after the
// plugin's own handler as the names "expose" and that core plugin's want it.
//
// Two things differ from a Dokku host: the image tag is not "latest" but the host's own, and so is the end of the containers'
// names, for Docker's names are shared with everybody else on the machine. Tests that run side by side can thus use the same
// app names.
//
// The package knows what Dokku does, not what the plugin makes of it: it imports none of the plugin's packages, so that the
// plugin is judged by its binary alone. It does not import testing either: the demo runs on it. Tests use package rigtest.
package rig
