"use strict";
{
  const root = document.documentElement;
  const figures = JSON.parse(document.getElementById("figures").textContent);

  // "@blue/0.5" is the style sheet's --blue at half opacity, whatever the theme.
  const color = (name, styles) => {
    if (name === "@none") return "rgba(0,0,0,0)";
    const [key, opacity] = name.slice(1).split("/");
    const hex = styles.getPropertyValue(`--${key}`).trim();
    if (!opacity) return hex;
    const channels = [1, 3, 5].map((at) => parseInt(hex.slice(at, at + 2), 16));
    return `rgba(${channels.join(",")},${opacity})`;
  };

  // Only where a colour is meant: a category may well be called "@blue".
  const resolve = (value, styles, isColor) => {
    if (typeof value === "string") {
      return isColor && value.startsWith("@") ? color(value, styles) : value;
    }
    if (Array.isArray(value)) return value.map((item) => resolve(item, styles, isColor));
    if (value && typeof value === "object") {
      return Object.fromEntries(
        Object.entries(value).map(([key, item]) => [
          key,
          resolve(item, styles, isColor || /color/i.test(key)),
        ]),
      );
    }
    return value;
  };

  // Names of rows get a good third of the width; Plotly reads tags and entities in them.
  const fit = (text, width) => {
    const room = Math.max(19, Math.floor((width * 0.36) / 6.4));
    const tail = Math.floor((room - 1) / 3);
    const cut = text.length > room ? `${text.slice(0, room - 1 - tail)}…${text.slice(-tail)}` : text;
    return cut.replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");
  };

  const draw = () => {
    const styles = getComputedStyle(root);
    const family = getComputedStyle(document.body).fontFamily;
    for (const [name, figure] of Object.entries(figures)) {
      const place = document.getElementById(`figure-${name}`);
      const layout = resolve(figure.layout, styles, false);
      const rows = layout.yaxis.ticktext;
      if (rows) layout.yaxis.ticktext = rows.map((text) => fit(text, place.clientWidth));
      layout.font.family = family;
      layout.hoverlabel.font.family = family;
      Plotly.react(place, resolve(figure.data, styles, false), layout, {
        displayModeBar: false,
        responsive: true,
        doubleClick: false,
      });
    }
  };

  // Paper is light and narrow.
  const paper = (on) => () => {
    root.toggleAttribute("data-paper", on);
    draw();
    for (const name of Object.keys(figures)) Plotly.Plots.resize(`figure-${name}`);
  };

  draw();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", draw);
  addEventListener("beforeprint", paper(true));
  addEventListener("afterprint", paper(false));
}
