// An app on Slack's own SDK: it echoes, edits, answers a command, takes a click, a dialog, a file and its home tab.
// bolt_test.go runs it against the server, to see that what we take for Slack is one to others too.
const { App, LogLevel } = require('@slack/bolt');

const app = new App({
  token: process.env.BOLT_BOT_TOKEN,
  appToken: process.env.BOLT_APP_TOKEN,
  socketMode: true,
  logLevel: LogLevel.WARN,
  clientOptions: { slackApiUrl: process.env.BOLT_API_URL },
});

const card = (text, label) => [
  { type: 'markdown', text },
  {
    type: 'actions',
    block_id: 'card',
    elements: [{ type: 'button', action_id: 'press', value: 'nonce', text: { type: 'plain_text', text: label } }],
  },
];

app.message(/^echo (.*)/, async ({ message, context, client }) => {
  const said = context.matches[1];
  const where = { channel: message.channel, thread_ts: message.ts };
  const post = await client.chat.postMessage({ ...where, text: 'wait', blocks: card('wait', 'Wait') });
  await client.chat.update({ channel: post.channel, ts: post.ts, text: said, blocks: card(`**${said}**`, 'Press') });
});

app.message('file', async ({ message, client }) => {
  await client.filesUploadV2({
    channel_id: message.channel, thread_ts: message.ts, filename: 'out.txt', content: 'long output', initial_comment: 'here',
  });
});

app.command('/vm', async ({ command, ack, respond, client }) => {
  await ack();
  if (command.text === 'ask') {
    await client.views.open({
      trigger_id: command.trigger_id,
      view: {
        type: 'modal',
        callback_id: 'ask',
        title: { type: 'plain_text', text: 'Ask' },
        submit: { type: 'plain_text', text: 'Send' },
        blocks: [{ type: 'input', block_id: 'in', label: { type: 'plain_text', text: 'What?' }, element: { type: 'plain_text_input', action_id: 'text' } }],
      },
    });
    return;
  }
  await respond({ response_type: 'ephemeral', text: `${command.user_name} typed ${command.text}` });
});

app.view('ask', async ({ ack, view, client, body }) => {
  await ack();
  await client.chat.postMessage({ channel: process.env.BOLT_CHANNEL, text: `${body.user.id} asks ${view.state.values.in.text.value}` });
});

app.action('press', async ({ ack, action, body, client }) => {
  await ack();
  const { channel_id: channel, message_ts, thread_ts } = body.container;
  await client.chat.postEphemeral({ channel, thread_ts, user: body.user.id, text: `you pressed ${action.value}` });
  await client.chat.update({ channel, ts: message_ts, text: 'pressed' });
});

app.event('app_home_opened', async ({ event, client }) => {
  await client.views.publish({ user_id: event.user, view: { type: 'home', blocks: card('# Home', 'Again') } });
});

app.error(async (error) => {
  console.error('bolt: a listener failed:', error);
});

process.stdin.on('end', () => app.stop().then(() => process.exit(0))); // the test closes it
process.stdin.resume();
app.start().catch((error) => {
  console.error('bolt: it did not start:', error);
  process.exit(1);
});
