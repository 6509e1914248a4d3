// Of report.html: the slider over samples, and the values under the pointer in charts.
document.querySelectorAll('.frames').forEach(function (box) {
  var view = box.querySelector('.view img'), slider = box.querySelector('input');
  var buttons = Array.prototype.slice.call(box.querySelectorAll('.strip button'));
  function show(number) {
    var image = buttons[number].querySelector('img');
    view.src = image.src; view.alt = image.alt; slider.value = number;
    buttons.forEach(function (one, at) { one.setAttribute('aria-pressed', at === number); });
  }
  buttons.forEach(function (one, at) { one.onclick = function () { show(at); }; });
  slider.oninput = function () { show(Number(slider.value)); };
  slider.hidden = buttons.length < 2;
  var strip = box.querySelector('.strip');
  strip.scrollLeft = strip.scrollWidth;
});
document.querySelectorAll('svg[data-chart]').forEach(function (svg) {
  var chart = JSON.parse(svg.dataset.chart), said = svg.querySelector('.said'), line = svg.querySelector('.at');
  function number(value) { return String(Math.abs(value) >= 1e4 ? Math.round(value) : Number(value.toPrecision(4))); }
  function tell(event) {
    var box = svg.getBoundingClientRect();
    var x = (event.clientX - box.left) / box.width * chart.width, best = null;
    chart.series.forEach(function (one) {
      one.at.forEach(function (place) {
        if (best === null || Math.abs(place - x) < Math.abs(best - x)) { best = place; }
      });
    });
    if (best === null) { return; }
    var words = [], kimg = null;
    chart.series.forEach(function (one) {
      var at = one.at.indexOf(best);
      if (at >= 0) {
        kimg = one.kimg[at];
        words.push((one.name ? one.name + ' ' : '') + number(one.value[at]));
      }
    });
    said.textContent = number(kimg) + ' kimg: ' + words.join(', ');
    line.setAttribute('x1', best); line.setAttribute('x2', best); line.removeAttribute('visibility');
  }
  svg.addEventListener('pointermove', tell); svg.addEventListener('pointerdown', tell);
  svg.addEventListener('pointerleave', function () {
    said.textContent = chart.newest; line.setAttribute('visibility', 'hidden');
  });
});
